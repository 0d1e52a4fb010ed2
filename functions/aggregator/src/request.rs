//! The requests of the function.

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
    fn samples_are_read_and_what_is_wrong_is_told() {
        for name in ["schedule", "aggregate"] {
            assert_eq!(parse(&sample("aggregator", name)), Ok(Request::Aggregate {}), "{name}");
        }
        for (request, expected) in [
            (sample("aggregator", "bad").as_str(), "is unknown, expected one of aggregate"),
            ("{}", "field \"action\": missing, expected one of aggregate"),
            (r#"{"action":"aggregate","limit":1}"#, "field \"limit\": unknown field"),
        ] {
            let error = parse(request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
