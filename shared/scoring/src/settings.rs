//! The settings of scoring, each read by the functions that need it.

use std::time::Duration;

use lambda::settings::Settings;

/// `SCORER_FUNCTION`: name, alias or ARN of the scorer; `scorer` unless set.
pub fn scorer_function(settings: &mut Settings<'_>) -> String {
    settings.or("SCORER_FUNCTION", "scorer".to_owned())
}

/// `SCORER_TIMEOUT_MS`: longest wait for the scores of a batch, in milliseconds, for each attempt; 2000 unless set.
pub fn scorer_timeout(settings: &mut Settings<'_>) -> Duration {
    Duration::from_millis(settings.or("SCORER_TIMEOUT_MS", 2_000))
}

/// `FRAUD_THRESHOLD`: the score from which an event is `fraud`, 0 to 100; 80 unless set.
pub fn fraud_threshold(settings: &mut Settings<'_>) -> u8 {
    let threshold = settings.or("FRAUD_THRESHOLD", 80);
    if threshold > 100 {
        settings.problem(format!("FRAUD_THRESHOLD={threshold}: scores go from 0 to 100"));
    }
    threshold
}
