//! A request's body, split into events that are not parsed yet.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use event::limits::{self, Item, LimitError, Limits};
use event::schema::Violation;
use event::{EventError, EventId};

use crate::IngestError;

/// The path of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /events`: one event, or a batch if the body is one.
    Events,
    /// `POST /events/batch`: always a batch.
    Batch,
}

/// The format of the body, from its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    /// `application/json` and other JSON, including structured CloudEvents. Also no `Content-Type` at all.
    Json,
    /// `application/cloudevents-batch+json`
    CloudEventsBatch,
    /// `application/x-ndjson`
    Lines,
}

impl MediaType {
    fn of(headers: &HeaderMap) -> Result<Self, IngestError> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(MediaType::Json) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/cloudevents-batch+json") {
            Ok(MediaType::CloudEventsBatch)
        } else if is("application/x-ndjson") || is("application/jsonl") {
            Ok(MediaType::Lines)
        } else if event::is_json(essence) {
            Ok(MediaType::Json)
        } else {
            Err(IngestError::MediaType(essence.chars().take(64).collect()))
        }
    }
}

/// The events of a request.
#[derive(Debug)]
pub struct Submission<'b> {
    /// Whether the answer lists items.
    pub is_batch: bool,
    pub items: Vec<Item<'b>>,
    /// Only for a CloudEvent in binary mode.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Only for a single event; in a batch each event has its own id.
    pub idempotency_key: Option<EventId>,
}

/// Refuses media types that cannot be read, before the body is read.
///
/// # Errors
/// [`IngestError::MediaType`].
pub fn check_media_type(headers: &HeaderMap) -> Result<(), IngestError> {
    MediaType::of(headers).map(drop)
}

impl<'b> Submission<'b> {
    /// Splits `body` into events without parsing them.
    ///
    /// # Errors
    /// If the request as a whole cannot be used. Errors of single events are found later.
    pub fn split(
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &'b [u8],
        limits: &Limits,
    ) -> Result<Self, IngestError> {
        let attributes = cloud_event_attributes(headers)?;
        let is_array = endpoint == Endpoint::Batch || limits::is_array(body);
        let items = match MediaType::of(headers)? {
            MediaType::Json if attributes.is_some() && endpoint == Endpoint::Batch => {
                return Err(LimitError::NotABatch.into());
            }
            MediaType::Json if attributes.is_some() || !is_array => {
                let idempotency_key = idempotency_key(headers)?;
                return Ok(Submission {
                    is_batch: false,
                    items: vec![Item::single(body)],
                    attributes,
                    idempotency_key,
                });
            }
            MediaType::Json | MediaType::CloudEventsBatch => limits::batch_items(body, limits)?,
            MediaType::Lines => limits::line_items(body, limits)?,
        };
        if items.is_empty() {
            return Err(IngestError::EmptyBatch);
        }
        Ok(Submission { is_batch: true, items, attributes: None, idempotency_key: None })
    }
}

/// `Idempotency-Key`, bare or as the quoted string of the IETF draft.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<EventId>, IngestError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    EventId::new(bare).map(Some).map_err(|error| violation("Idempotency-Key", "format", error.to_string()))
}

fn violation(field: &str, rule: &str, message: impl Into<String>) -> IngestError {
    IngestError::Event(EventError::Invalid(vec![Violation::new(field, rule, message)]))
}

/// The `ce-` headers without their prefix, if the request is a CloudEvent in binary mode (CloudEvents HTTP binding
/// 1.0.2, section 3.1).
fn cloud_event_attributes(headers: &HeaderMap) -> Result<Option<BTreeMap<String, String>>, IngestError> {
    if !headers.contains_key("ce-specversion") {
        return Ok(None);
    }
    let mut attributes = BTreeMap::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        let text =
            percent_decoded(value).ok_or_else(|| violation(header.as_str(), "format", "not percent-encoded UTF-8"))?;
        if attributes.insert(name.to_owned(), text).is_some() {
            return Err(violation(header.as_str(), "conflict", "the header is sent twice"));
        }
    }
    Ok(Some(attributes))
}

/// Decodes the percent-encoding of a CloudEvents header (HTTP binding, section 3.1.3.2).
fn percent_decoded(value: &HeaderValue) -> Option<String> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            rest = after;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let code = digit(digits[0])? * 16 + digit(digits[1])?;
            decoded.push(u8::try_from(code).ok()?);
        } else {
            decoded.push(*byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { items: 10, item_bytes: 1000, depth: 8 };

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// `single` or the number of items, or the tag of the error.
    fn split(endpoint: Endpoint, pairs: &[(&'static str, &str)], body: &str) -> String {
        match Submission::split(endpoint, &headers(pairs), body.as_bytes(), &LIMITS) {
            Ok(submission) if submission.is_batch => submission.items.len().to_string(),
            Ok(_) => "single".to_owned(),
            Err(error) => error.tag().to_owned(),
        }
    }

    #[test]
    fn the_body_and_its_type_say_what_it_is() {
        use Endpoint::{Batch, Events};
        let json = [("content-type", "application/json; charset=utf-8")];
        let lines = [("content-type", "application/x-ndjson")];
        let many = [("content-type", "application/cloudevents-batch+json; charset=utf-8")];
        let one = [("content-type", "application/cloudevents+json")];
        let binary = [("content-type", "application/json"), ("ce-specversion", "1.0")];
        assert_eq!(split(Events, &json, "{}"), "single");
        assert_eq!(split(Events, &[], "{}"), "single");
        assert_eq!(split(Events, &one, "{}"), "single");
        assert_eq!(split(Events, &binary, "[1]"), "single", "data may be anything");
        assert_eq!(split(Events, &json, " [{},{}]"), "2");
        assert_eq!(split(Events, &many, "[{}]"), "1");
        assert_eq!(split(Events, &lines, "{}\n{}\n"), "2");
        assert_eq!(split(Events, &json, r#"{"events":[{}]}"#), "single", "a member called events is not special here");
        assert_eq!(split(Batch, &json, r#"{"events":[{},{}]}"#), "2");
        assert_eq!(split(Batch, &json, "[{}]"), "1");
        assert_eq!(split(Batch, &json, "{}"), "not_a_batch");
        assert_eq!(split(Batch, &binary, "{}"), "not_a_batch");
        assert_eq!(split(Batch, &json, "[]"), "empty_batch");
        assert_eq!(split(Batch, &lines, "\n"), "empty_batch");
        assert_eq!(split(Events, &[("content-type", "text/plain")], "{}"), "unsupported_media_type");
        assert_eq!(
            split(Events, &[("content-type", "application/x-www-form-urlencoded")], "{}"),
            "unsupported_media_type"
        );
    }

    #[test]
    fn reads_attributes_from_headers() {
        let attributes = |pairs: &[(&'static str, &str)]| cloud_event_attributes(&headers(pairs));
        let full =
            attributes(&[("ce-specversion", "1.0"), ("ce-source", "/caf%C3%A9"), ("accept", "x")]).unwrap().unwrap();
        assert_eq!(full["source"], "/café");
        assert_eq!(full.len(), 2);
        assert!(attributes(&[("ce-id", "1")]).unwrap().is_none());
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert!(attributes(&[("ce-specversion", "1.0"), ("ce-source", bad)]).is_err(), "{bad}");
        }
        let mut twice = headers(&[("ce-specversion", "1.0"), ("ce-id", "a")]);
        twice.append("ce-id", HeaderValue::from_static("b"));
        assert!(cloud_event_attributes(&twice).is_err());
    }

    #[test]
    fn an_idempotency_key_may_be_quoted() {
        let key = |text| idempotency_key(&headers(&[("idempotency-key", text)]));
        assert_eq!(key("abc").unwrap().unwrap().as_str(), "abc");
        assert_eq!(key("\"abc\"").unwrap().unwrap().as_str(), "abc");
        assert!(key("").is_err());
        assert!(key(&"x".repeat(257)).is_err());
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
    }
}
