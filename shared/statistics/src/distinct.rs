//! How many different subjects there are.

use datasketches::hll::{HllSketch, HllType, HllUnion};

/// Logarithm of the number of registers: 4,096 of them, a relative standard error of about 1.6 %, at most 4 kB.
const LG_REGISTERS: u8 = 12;
/// The relative standard error of an estimate: 1.04/√4096 (Flajolet et al., HyperLogLog, 2007). The true number is within twice
/// of it with a probability of 95 %. Estimates up to a few hundred are exact but for subjects whose hashes are equal.
pub const RELATIVE_ERROR: f64 = 0.01625;
/// The most compact form for the few subjects that most cells have.
const FORM: HllType = HllType::Hll4;

/// A stored sketch cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a sketch cannot be read")]
pub struct SketchError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl SketchError {
    pub(crate) fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        SketchError(Box::new(error))
    }
}

/// An estimate of the number of different subjects. The union of two is that of their subjects, whatever their order, and
/// adding a subject again changes nothing.
#[derive(Clone, Debug)]
pub struct DistinctSubjects(HllUnion);

impl Default for DistinctSubjects {
    fn default() -> Self {
        DistinctSubjects::new()
    }
}

impl DistinctSubjects {
    pub fn new() -> Self {
        match HllUnion::new(LG_REGISTERS) {
            Ok(union) => DistinctSubjects(union),
            Err(_) => unreachable!("the number of registers is a constant in the range that the library takes"),
        }
    }

    pub fn add(&mut self, subject: i64) {
        self.0.update_value(subject);
    }

    /// Adds the subjects of a stored sketch.
    ///
    /// # Errors
    /// If it is damaged, or of a version that this build cannot read.
    pub fn merge(&mut self, stored: &[u8]) -> Result<(), SketchError> {
        let sketch = HllSketch::deserialize(stored).map_err(SketchError::of)?;
        self.0.update(&sketch);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The format of Apache DataSketches, which begins with the version of the format; other languages read it too.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_sketch(FORM).serialize()
    }

    /// The estimated number. Not the library's first estimate, which is a little better but depends on the order in which
    /// subjects and sketches came.
    pub fn estimate(&self) -> u64 {
        self.0.composite_estimate().round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subjects: std::ops::Range<i64>) -> DistinctSubjects {
        let mut distinct = DistinctSubjects::new();
        subjects.for_each(|subject| distinct.add(subject));
        distinct
    }

    #[test]
    fn few_are_counted_and_many_are_estimated_within_the_stated_bounds() {
        assert_eq!((of(0..0).estimate(), of(0..100).estimate()), (0, 100));
        for number in [1_000, 50_000, 300_000] {
            let error = of(0..number).estimate() as f64 / number as f64 - 1.0;
            assert!(error.abs() < 3.0 * RELATIVE_ERROR, "{error} for {number}");
        }
    }

    #[test]
    fn a_union_knows_each_subject_once_in_any_order() {
        let (a, b) = (of(0..5_000), of(2_500..7_500));
        let union = |first: &DistinctSubjects, second: &DistinctSubjects| {
            let mut union = DistinctSubjects::new();
            union.merge(&first.to_bytes()).unwrap();
            union.merge(&second.to_bytes()).unwrap();
            union.estimate()
        };
        assert!(union(&a, &b).abs_diff(7_500) < 400, "{}", union(&a, &b));
        assert_eq!(union(&a, &b), union(&b, &a));
        assert_eq!(union(&a, &a), union(&a, &DistinctSubjects::new()));
    }

    #[test]
    fn what_is_no_sketch_is_an_error() {
        let mut distinct = of(0..3);
        let mut bytes = distinct.to_bytes();
        assert!(distinct.merge(&[]).is_err());
        // The second byte is the version of the format.
        bytes[1] = 99;
        assert!(distinct.merge(&bytes).is_err());
        assert_eq!(distinct.estimate(), 3);
    }

    #[test]
    fn a_sketch_that_an_earlier_version_stored_can_be_read() {
        let stored = include_bytes!("../fixtures/three_subjects.hll");
        let mut distinct = DistinctSubjects::new();
        distinct.merge(stored).unwrap();
        assert_eq!(distinct.estimate(), 3);
        assert_eq!(
            of(1..4).to_bytes(),
            stored,
            "the stored form has changed: readers of the version before must know it"
        );
    }
}
