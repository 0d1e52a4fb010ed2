//! The archiver's settings.

use std::time::Duration;

use lambda::batch_response::BatchResponse;
use settings::{Settings, SettingsError, Variables};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `ARCHIVE_BUCKET`: the bucket's name. Required.
    pub bucket: String,
    /// `BATCH_RESPONSE`: `whole` or `partial`, as the event source mapping is configured. Default `whole`.
    pub batch_response: BatchResponse,
    /// `BREAKER_OPEN_SEC`: how long calls to S3 are refused after repeated failures, in seconds. Default 60.
    pub breaker_open: Duration,
}

impl Config {
    /// # Errors
    /// Every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let bucket = settings::shared::archive_bucket(&mut settings);
        let batch_response = BatchResponse::from_settings(&mut settings);
        let breaker_open = settings::shared::breaker_open(&mut settings);
        settings.build(bucket.map(|bucket| Config { bucket, batch_response, breaker_open }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;
    use testkit::readme::documented_settings;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = [BTreeMap::from([("ARCHIVE_BUCKET", "forebay")])];
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_bucket_must_be_named() {
        let error = Config::from_variables(&BTreeMap::from([("BATCH_RESPONSE", "half")])).unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
        let config = Config::from_variables(&BTreeMap::from([("ARCHIVE_BUCKET", "forebay")])).unwrap();
        let expected = Config {
            bucket: "forebay".into(),
            batch_response: BatchResponse::Whole,
            breaker_open: Duration::from_secs(60),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn the_readme_documents_every_setting() {
        let variables = Recording::new(BTreeMap::from([("ARCHIVE_BUCKET", "forebay")]));
        Config::from_variables(&variables).unwrap();
        assert_eq!(variables.names(), documented_settings(include_str!("../README.md")));
    }
}
