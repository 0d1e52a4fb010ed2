//! The requests of the function.

use lambda::request::{self, Limit, RequestError};
use serde::Deserialize;
use serde_json::value::RawValue;
use strum::VariantNames;

/// The largest `limit`. A run over so many events would take longer than Lambda allows any function.
type MostEvents = Limit<10_000_000>;

/// A valid request. The name of each variant in lower case is its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, VariantNames)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[strum(serialize_all = "lowercase")]
pub enum Request {
    /// The most events to look at; if absent, all that have no score.
    Rescore { limit: Option<MostEvents> },
}

impl Request {
    /// Parses `{"action":"rescore"}`. An event of a schedule asks for a run without a limit.
    ///
    /// # Errors
    /// If it is not a valid request; the error names the field and its allowed values.
    pub fn parse(event: &RawValue) -> Result<Self, RequestError> {
        let (request, _) = request::parse_or_scheduled(event, Request::Rescore { limit: None })?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<Option<u32>, String> {
        let request = Request::parse(&RawValue::from_string(text.to_owned()).unwrap());
        let Request::Rescore { limit } = request.map_err(|error| chain(&error))?;
        Ok(limit.map(Limit::get))
    }

    #[test]
    fn samples_are_read() {
        assert_eq!(parse(&sample("rescorer", "schedule")), Ok(None));
        assert_eq!(parse(&sample("rescorer", "limited")), Ok(Some(1000)));
        assert_eq!(parse(r#"{"action":"rescore"}"#), Ok(None));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let cases = [
            (sample("rescorer", "bad"), "field \"limit\": not 1 to 10000000"),
            ("{}".into(), "field \"action\": missing, expected one of rescore"),
            (r#"{"source":"aws.s3"}"#.into(), "field \"action\": missing"),
            ("7".into(), "the request is not a JSON object"),
            (r#"{"action":"score"}"#.into(), "field \"action\": \"score\" is unknown, expected one of rescore"),
            (r#"{"action":"rescore","max":1}"#.into(), "field \"max\": unknown field `max`, expected `limit`"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
