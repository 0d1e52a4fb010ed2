//! The answer to a Kafka batch that could not be finished.
//!
//! An event source mapping reads `batchItemFailures` only if it was created with `ReportBatchItemFailures`, which needs
//! provisioned mode (AWS Lambda "Using retry configurations for Kafka"). Any other mapping takes such an answer for
//! success and commits the failed records, which would then be lost. A function cannot find out how its mapping was
//! created, so a setting says it. By default the invocation fails, because then every mapping sends the batch again.

use pipeline::Position;

use crate::invocation::InvocationError;
use crate::kafka_trigger::BatchAnswer;
use settings::Settings;
use strum::{EnumString, VariantNames};

/// The answers that the event source mapping supports. The setting `BATCH_RESPONSE`: `whole` (default) or `partial`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum BatchResponse {
    /// Success or failure of the whole batch: if one record must be sent again, the invocation fails.
    #[default]
    Whole,
    /// `ReportBatchItemFailures` is on: the answer names the records to send again.
    Partial,
}

impl BatchResponse {
    /// Reads `BATCH_RESPONSE`.
    pub fn from_settings(settings: &mut Settings<'_>) -> Self {
        settings.choice("BATCH_RESPONSE", BatchResponse::default())
    }

    /// The answer that makes AWS send the records in `unfinished` again, of a batch of `records`. They must be records of
    /// this batch: AWS treats an unknown one as a failure of the whole batch. `cause` says why they are unfinished; it is
    /// called only if the invocation must fail.
    ///
    /// A batch of which nothing was finished fails as an invocation in both cases. A partial answer is a success for
    /// Lambda: its metric `Errors`, and alarms on it, would not see that a dependency is down. The mapping does the same in
    /// both cases: it sends the whole batch again, and counts an attempt (AWS Lambda "Using retry configurations for
    /// Kafka").
    ///
    /// Every effect must be idempotent in both cases: with `Whole` the finished records come again too, and with
    /// `Partial` AWS does not say which records come again.
    ///
    /// # Errors
    /// `cause`, which fails the invocation, if there are unfinished records, and the mapping supports no partial answer or
    /// nothing was finished.
    pub fn answer(
        self,
        unfinished: Vec<Position>,
        records: usize,
        cause: impl FnOnce() -> InvocationError,
    ) -> Result<BatchAnswer, InvocationError> {
        let is_answer = match self {
            BatchResponse::Whole => unfinished.is_empty(),
            BatchResponse::Partial => unfinished.is_empty() || unfinished.len() < records,
        };
        if is_answer { Ok(BatchAnswer::retry(unfinished)) } else { Err(cause()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cause() -> InvocationError {
        InvocationError { error_type: "test", message: "boom".into() }
    }

    fn unfinished() -> Vec<Position> {
        vec![Position::new("raw-events", 3, 100)]
    }

    #[test]
    fn a_mapping_without_partial_answers_sees_a_failure() {
        assert_eq!(BatchResponse::Whole.answer(unfinished(), 2, cause).unwrap_err().error_type, "test");
        let answer = BatchResponse::Partial.answer(unfinished(), 2, cause).unwrap();
        assert_eq!(answer, BatchAnswer::retry(unfinished()));
    }

    #[test]
    fn a_batch_of_which_nothing_was_finished_is_a_failure_that_metrics_see() {
        for response in [BatchResponse::Whole, BatchResponse::Partial] {
            assert_eq!(response.answer(unfinished(), 1, cause).unwrap_err().error_type, "test");
        }
    }

    #[test]
    fn a_finished_batch_is_done_in_both() {
        for response in [BatchResponse::Whole, BatchResponse::Partial] {
            assert_eq!(response.answer(Vec::new(), 0, cause).unwrap(), BatchAnswer::done());
        }
    }

    #[test]
    fn the_safe_one_is_the_default() {
        let read = |variables: &BTreeMap<&str, &str>| {
            let mut settings = Settings::new(variables);
            let response = BatchResponse::from_settings(&mut settings);
            settings.build(Some(response))
        };
        assert_eq!(read(&BTreeMap::new()), Ok(BatchResponse::Whole));
        assert_eq!(read(&BTreeMap::from([("BATCH_RESPONSE", "partial")])), Ok(BatchResponse::Partial));
        assert!(read(&BTreeMap::from([("BATCH_RESPONSE", "some")])).is_err());
    }
}
