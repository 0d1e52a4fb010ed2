//! The requests of the function.

use lambda::request::{self, RequestError, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use strum::VariantNames;
use webhooks::EndpointId;

/// A valid request. The name of each variant in kebab case is its action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, VariantNames)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Request {
    /// Sends what is due again.
    Retry {},
    /// What failed at every attempt, of one endpoint.
    ListDead { webhook: EndpointId },
    /// Sends that again: one message, or all.
    Resend { webhook: EndpointId, message_id: Option<Text> },
}

impl Request {
    /// Parses `{"action":…}`. An event of a schedule asks for a run of retries.
    ///
    /// # Errors
    /// If it is not a valid request; the error names the field and its allowed values.
    pub(crate) fn parse(event: &RawValue) -> Result<Self, RequestError> {
        request::parse_or_scheduled(event, Request::Retry {}).map(|(request, _)| request)
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
        let webhook: EndpointId = "wh_0123456789abcdef0123".parse().unwrap();
        assert_eq!(parse(&sample("notifier", "schedule")), Ok(Request::Retry {}));
        assert_eq!(parse(&sample("notifier", "retry")), Ok(Request::Retry {}));
        assert_eq!(parse(&sample("notifier", "list-dead")), Ok(Request::ListDead { webhook: webhook.clone() }));
        assert_eq!(parse(&sample("notifier", "resend")), Ok(Request::Resend { webhook, message_id: None }));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let cases = [
            (sample("notifier", "bad"), "is unknown, expected one of retry, list-dead, resend"),
            (r#"{"action":"list-dead"}"#.into(), "missing field `webhook`"),
            (r#"{"action":"resend","webhook":"acme"}"#.into(), "field \"webhook\": not the id of a webhook"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
