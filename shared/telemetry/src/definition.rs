//! What a metric is: its definition, and the handles by which values are given to it.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use metrics::{Key, Label, Level, Metadata, with_recorder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// The value of now.
    Gauge,
    /// Observations, counted by buckets.
    Histogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Seconds,
    Bytes,
    /// A state or another number without a unit.
    None,
}

impl Unit {
    /// As CloudWatch's `MetricDatum` spells it.
    pub const fn cloudwatch(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
            Unit::None => "None",
        }
    }
}

/// The upper bounds of a histogram's buckets. The bounds of the service level objectives (docs/slo.md) are among them:
/// a share below a bound can be read exactly, and between bounds only estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Of one call or one step, in seconds: from the budgets of a few milliseconds to a function's time-out.
    Duration,
    /// From one place of the pipeline to another, in seconds: from tens of milliseconds to an hour.
    Delay,
    /// Of an object, in bytes.
    Size,
}

impl Buckets {
    pub const fn bounds(self) -> &'static [f64] {
        match self {
            Buckets::Duration => &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0],
            Buckets::Delay => &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0],
            Buckets::Size => &[1024.0, 16384.0, 131072.0, 1048576.0, 8388608.0, 67108864.0],
        }
    }
}

/// What the list says of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// Of a histogram.
    pub buckets: Option<Buckets>,
    /// The names of its labels, besides [`crate::SERVICE`]. Every label has few values.
    pub labels: &'static [&'static str],
    /// The labels that are dimensions on CloudWatch, besides [`crate::SERVICE`]. Over the others CloudWatch sums. It bills
    /// each combination of dimensions as a metric of its own, and an alarm must name all of them.
    pub dimensions: &'static [&'static str],
    /// The programs that write it.
    pub services: &'static [&'static str],
    /// What it measures: the comment of its constant in the list.
    pub meaning: &'static str,
}

impl Definition {
    /// A value for each label, in the order of [`Definition::labels`]. Allocates at most one list.
    fn key<const L: usize>(&self, values: [&str; L]) -> Key {
        if L == 0 {
            return Key::from_static_name(self.name);
        }
        let labels = self.labels.iter().zip(values);
        let labels = labels.map(|(name, value)| Label::from_static_parts(name, interned(value)));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }

    /// Adds values that were read from elsewhere to the series of `key`, as the kind of the metric asks for.
    pub(crate) fn add_all(&self, key: &Key, values: &[f64]) {
        match self.kind {
            Kind::Counter => values.iter().for_each(|value| counter(key).increment(whole(*value))),
            Kind::Gauge => values.iter().for_each(|value| gauge(key).set(*value)),
            Kind::Histogram => values.iter().for_each(|value| histogram(key).record(*value)),
        }
    }
}

/// A count that went through JSON.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and below 2^53")]
fn whole(count: f64) -> u64 {
    count as u64
}

fn counter(key: &Key) -> metrics::Counter {
    with_recorder(|recorder| recorder.register_counter(key, &METADATA))
}

fn gauge(key: &Key) -> metrics::Gauge {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
}

fn histogram(key: &Key) -> metrics::Histogram {
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
}

/// The same text for the life of the process. Labels have few values, so few are kept, and a request does not copy them.
fn interned(value: &str) -> &'static str {
    static VALUES: RwLock<BTreeSet<&'static str>> = RwLock::new(BTreeSet::new());
    let known = VALUES.read().unwrap_or_else(PoisonError::into_inner).get(value).copied();
    if let Some(known) = known {
        return known;
    }
    let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
    match values.get(value) {
        Some(known) => known,
        None => {
            let kept: &'static str = value.to_owned().leak();
            values.insert(kept);
            kept
        }
    }
}

const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, None);

/// Its type says how many labels it has.
#[derive(Clone, Copy, Debug)]
pub struct Counter<const L: usize>(pub Definition);

impl<const L: usize> Counter<L> {
    pub fn add(&self, by: u64, labels: [&str; L]) {
        counter(&self.0.key(labels)).increment(by);
    }

    /// Makes the series visible at 0, so that the first event is seen as a rise: a series that begins at 1 has not risen.
    pub fn begin(&self, labels: [&str; L]) {
        self.add(0, labels);
    }
}

/// Its type says how many labels it has.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<const L: usize>(pub Definition);

impl<const L: usize> Gauge<L> {
    /// Makes the series visible at 0 without saying that it is 0: where zeros cost, it is written when it has been set.
    pub fn begin(&self, labels: [&str; L]) {
        drop(gauge(&self.0.key(labels)));
    }

    pub fn set(&self, value: f64, labels: [&str; L]) {
        gauge(&self.0.key(labels)).set(value);
    }
}

/// Its type says how many labels it has.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<const L: usize>(pub Definition);

impl<const L: usize> Histogram<L> {
    pub fn record(&self, value: f64, labels: [&str; L]) {
        self.record_all([value], labels);
    }

    /// Looks the series up once for all values.
    pub fn record_all(&self, values: impl IntoIterator<Item = f64>, labels: [&str; L]) {
        let histogram = histogram(&self.0.key(labels));
        values.into_iter().for_each(|value| histogram.record(value));
    }
}
