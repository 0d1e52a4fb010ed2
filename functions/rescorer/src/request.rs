//! What the function can be asked.

use lambda::schedule::Trigger;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::RescorerError;

/// A run of the largest limit takes longer than any function may run.
const MAX_LIMIT: usize = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Most events to look at; all that wait if absent.
    pub limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Fields {
    Rescore { limit: Option<usize> },
}

impl Request {
    /// Reads `{"action":"rescore"}`; an event of a schedule asks for a run without limit.
    ///
    /// # Errors
    /// If it is not a request, naming the field and what it may be.
    pub fn parse(event: &RawValue) -> Result<Self, RescorerError> {
        match Trigger::of(event).map_err(RescorerError::Request)? {
            Trigger::Schedule => return Ok(Request { limit: None }),
            Trigger::Unknown => return Err(RescorerError::NoAction),
            Trigger::Request => {}
        }
        let Fields::Rescore { limit } = serde_json::from_str(event.get()).map_err(RescorerError::Request)?;
        match limit {
            Some(limit) if !(1..=MAX_LIMIT).contains(&limit) => {
                Err(RescorerError::Field { field: "limit", problem: format!("not 1 to {MAX_LIMIT}") })
            }
            limit => Ok(Request { limit }),
        }
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
    fn samples_are_read() {
        assert_eq!(parse(&sample("rescorer", "schedule")), Ok(Request { limit: None }));
        assert_eq!(parse(&sample("rescorer", "limited")), Ok(Request { limit: Some(1000) }));
        assert_eq!(parse(r#"{"action":"rescore"}"#), Ok(Request { limit: None }));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let cases = [
            (sample("rescorer", "bad"), "field \"limit\" is not 1 to 10000000"),
            ("{}".into(), "the request has no \"action\", which must be rescore"),
            (r#"{"source":"aws.s3"}"#.into(), "the request has no \"action\""),
            ("7".into(), "the request cannot be read"),
            (r#"{"action":"score"}"#.into(), "unknown variant `score`, expected `rescore`"),
            (r#"{"action":"rescore","max":1}"#.into(), "unknown field `max`, expected `limit`"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
