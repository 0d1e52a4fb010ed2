//! The requests of the function.

use event::Timestamp;
use lambda::request::{self, RequestError};
use serde::Deserialize;
use serde_json::value::RawValue;
use strum::VariantNames;

/// A valid request. The name of each variant in lower case is its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, VariantNames)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[strum(serialize_all = "lowercase")]
pub enum Request {
    /// Count what is recorded and not counted yet.
    Aggregate {},
    /// Compare what is counted of a time span with the stored events. Both ends are widened to whole quarters of an hour.
    Verify { from: Timestamp, to: Timestamp },
}

impl Request {
    /// Parses `{"action":"aggregate"}`. An event of a schedule asks for the same.
    ///
    /// # Errors
    /// If it is not a valid request; the error names the field and its allowed values.
    pub fn parse(event: &RawValue) -> Result<Self, RequestError> {
        let (request, _) = request::parse_or_scheduled(event, Request::Aggregate {})?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(&RawValue::from_string(text.to_owned()).unwrap()).map_err(|error| chain(&error))
    }

    #[test]
    fn a_span_is_two_times() {
        let at = |text| Timestamp::parse(text).unwrap();
        let expected = Request::Verify { from: at("2026-11-20T00:00:00Z"), to: at("2026-11-21T00:00:00Z") };
        assert_eq!(parse(&sample("aggregator", "verify")), Ok(expected));
        let error = parse(r#"{"action":"verify","from":"yesterday","to":"2026-11-21T00:00:00Z"}"#).unwrap_err();
        assert!(error.contains("from"), "{error}");
    }

    #[test]
    fn samples_are_read_and_what_is_wrong_is_told() {
        for name in ["schedule", "aggregate"] {
            assert_eq!(parse(&sample("aggregator", name)), Ok(Request::Aggregate {}), "{name}");
        }
        for (request, expected) in [
            (sample("aggregator", "bad").as_str(), "is unknown, expected one of aggregate, verify"),
            ("{}", "field \"action\": missing, expected one of aggregate"),
            (r#"{"action":"aggregate","limit":1}"#, "field \"limit\": unknown field"),
        ] {
            let error = parse(request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
