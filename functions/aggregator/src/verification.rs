//! Whether what is counted of a time span is what its events make.

use event::Timestamp;
use postgres::Verification;
use statistics::{QUARTER_MS, quarter_of};
use tokio::time::Instant;

use crate::app::App;
use crate::error::AggregatorError;

impl App {
    /// # Errors
    /// If Postgres fails, or the time is too short for so long a span.
    pub(crate) async fn verify(
        &self,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<Verification, AggregatorError> {
        let (from, to) = whole_quarters(from, to);
        let compared = tokio::time::timeout_at(deadline, self.aggregates.verify(from, to)).await;
        let compared = compared.map_err(|_| AggregatorError::OutOfTime)?;
        let verification = compared.map_err(|error| error.into_dependency("comparing aggregates with events"))?;
        if verification.different > 0 {
            tracing::error!(
                %from,
                %to,
                different = verification.different,
                example = verification.examples.first(),
                "statistics differ from the events that they count"
            );
        }
        Ok(verification)
    }
}

/// The quarters of an hour that a span touches.
fn whole_quarters(from: Timestamp, to: Timestamp) -> (Timestamp, Timestamp) {
    let last = Timestamp::from_millis(to.as_millis().saturating_add(QUARTER_MS - 1));
    (quarter_of(from), quarter_of(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_widened_to_whole_quarters() {
        let at = |text| Timestamp::parse(text).unwrap();
        let widened = whole_quarters(at("2026-11-20T10:14:59.999Z"), at("2026-11-20T10:15:00.001Z"));
        assert_eq!(widened, (at("2026-11-20T10:00:00Z"), at("2026-11-20T10:30:00Z")));
        assert_eq!(whole_quarters(widened.0, widened.1), widened);
    }
}
