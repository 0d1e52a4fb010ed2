//! A request's body, split into events that are not parsed yet.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use event::limits::{self, Item, LimitError, Limits};
use event::schema::Violation;
use event::{EventError, EventId};
use pipeline::ports::KeyKind;

use crate::IngestError;
use crate::decide::EventForm;
use crate::headers::trimmed;

/// The path of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /events`: one event, or a batch if the body is one.
    Events,
    /// `POST /events/batch`: always a batch.
    Batch,
}

impl Endpoint {
    pub const fn path(self) -> &'static str {
        match self {
            Endpoint::Events => "/events",
            Endpoint::Batch => "/events/batch",
        }
    }
}

/// The format of the body, from its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    /// `application/json` and other JSON. Also no `Content-Type` at all.
    Json,
    /// `application/cloudevents+json`
    CloudEvent,
    /// `application/cloudevents-batch+json`
    CloudEventsBatch,
    /// `application/x-ndjson`
    Lines,
}

impl MediaType {
    /// A beacon of a browser says `text/plain`, because any other type would need a request before it.
    fn of(headers: &HeaderMap, kind: KeyKind) -> Result<Self, IngestError> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(MediaType::Json) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let essence = event::essence(&text);
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/cloudevents-batch+json") {
            Ok(MediaType::CloudEventsBatch)
        } else if is("application/cloudevents+json") {
            Ok(MediaType::CloudEvent)
        } else if is("application/x-ndjson") || is("application/jsonl") {
            Ok(MediaType::Lines)
        } else if event::is_json(essence) || kind == KeyKind::Publishable && is("text/plain") {
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
    pub form: EventForm,
    /// Only for a single event; in a batch each event has its own id.
    pub idempotency_key: Option<EventId>,
}

/// Refuses media types that cannot be read, before the body is read.
///
/// # Errors
/// [`IngestError::MediaType`].
pub fn check_media_type(headers: &HeaderMap, kind: KeyKind) -> Result<(), IngestError> {
    MediaType::of(headers, kind).map(drop)
}

impl<'b> Submission<'b> {
    /// Splits `body` into events without parsing them.
    ///
    /// # Errors
    /// If the request as a whole cannot be used. Errors of single events are found later.
    pub fn split(
        endpoint: Endpoint,
        headers: &HeaderMap,
        kind: KeyKind,
        body: &'b [u8],
        limits: &Limits,
    ) -> Result<Self, IngestError> {
        let media_type = MediaType::of(headers, kind)?;
        let (form, items) = match media_type {
            // The media type says that the event is in the body, so attributes in headers are not read.
            MediaType::CloudEvent => (EventForm::Structured, None),
            MediaType::CloudEventsBatch => (EventForm::Structured, Some(limits::array_items(body, limits)?)),
            MediaType::Lines => (EventForm::Plain, Some(limits::line_items(body, limits)?)),
            MediaType::Json => match cloud_event_attributes(headers)? {
                Some(attributes) => (EventForm::Binary(attributes), None),
                None if endpoint == Endpoint::Batch || limits::is_array(body) => {
                    (EventForm::Plain, Some(limits::batch_items(body, limits)?))
                }
                None => (EventForm::Plain, None),
            },
        };
        let Some(items) = items else {
            if endpoint == Endpoint::Batch {
                return Err(LimitError::NotABatch.into());
            }
            let idempotency_key = idempotency_key(headers)?;
            return Ok(Submission { is_batch: false, items: vec![Item::single(body)], form, idempotency_key });
        };
        if items.is_empty() {
            return Err(IngestError::EmptyBatch);
        }
        if headers.contains_key(IDEMPOTENCY_KEY) {
            let message = "it belongs to a single event; give each event of a batch an id of its own";
            return Err(violation(IDEMPOTENCY_KEY, "singleEvent", message));
        }
        Ok(Submission { is_batch: true, items, form, idempotency_key: None })
    }
}

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// `Idempotency-Key`, bare or as the quoted string of the IETF draft (a string of RFC 8941, section 3.3.3).
///
/// The key becomes the event's id, which is a text. Bytes that are no UTF-8 are refused, and so is the character with
/// which a gateway replaces such bytes: two keys that differ only there would be one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<EventId>, IngestError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let refuse = |message: &str| violation(IDEMPOTENCY_KEY, "format", message);
    let text = std::str::from_utf8(trimmed(value))
        .ok()
        .filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))
        .ok_or_else(|| refuse("the key is not UTF-8"))?;
    let unquoted = unquoted(text).ok_or_else(|| refuse("the quoted string has no end, or something follows it"))?;
    EventId::new(&unquoted).map(Some).map_err(|error| refuse(&error.to_string()))
}

/// `text` without double quotes around it and with its escapes undone, if it begins with one (RFC 9110, section 5.6.4);
/// `None` if the quote is not closed at the end.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(Cow::Borrowed(text)) };
    let mut plain = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(Cow::Owned(plain)),
            '\\' => plain.push(chars.next()?),
            other => plain.push(other),
        }
    }
}

fn violation(field: &str, rule: &str, message: impl Into<String>) -> IngestError {
    IngestError::Event(EventError::Invalid(vec![Violation::new(field, rule, message)]))
}

/// The `ce-` headers without their prefix, if there are any: then the request is a CloudEvent in binary mode
/// (CloudEvents HTTP binding 1.0.2, section 3.1). That `ce-specversion` is among them is checked with the other
/// attributes.
fn cloud_event_attributes(headers: &HeaderMap) -> Result<Option<BTreeMap<String, String>>, IngestError> {
    let mut attributes = BTreeMap::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        let text = attribute_value(value).ok_or_else(|| {
            violation(header.as_str(), "format", "not percent-encoded UTF-8, or a quote is not closed")
        })?;
        if attributes.insert(name.to_owned(), text).is_some() {
            return Err(violation(header.as_str(), "conflict", "the header is sent twice"));
        }
    }
    Ok(Some(attributes).filter(|attributes| !attributes.is_empty()))
}

/// Undoes double quotes and then the percent-encoding, each once (HTTP binding, section 3.1.3.2).
fn attribute_value(value: &HeaderValue) -> Option<String> {
    percent_decoded(unquoted(std::str::from_utf8(trimmed(value)).ok()?)?.as_bytes())
}

/// Decodes the percent-encoding of a CloudEvents header (HTTP binding, section 3.1.3.2).
fn percent_decoded(value: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
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
        match Submission::split(endpoint, &headers(pairs), KeyKind::Server, body.as_bytes(), &LIMITS) {
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
        assert_eq!(split(Events, &one, "[{}]"), "single", "which is then no object");
        assert_eq!(split(Batch, &one, "[{}]"), "not_a_batch");
        assert_eq!(split(Events, &many, r#"{"events":[{}]}"#), "not_a_batch", "the format has no such object");
        let key = [("content-type", "application/json"), ("idempotency-key", "k")];
        assert_eq!(split(Events, &key, "{}"), "single");
        assert_eq!(split(Events, &key, "[{}]"), "schema_violation");
        assert_eq!(split(Batch, &key, "[{}]"), "schema_violation");
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
    fn the_media_type_alone_says_which_form_events_have() {
        let form = |media_type, more: &[(&'static str, &'static str)], body: &str| {
            let all = [&[("content-type", media_type)], more].concat();
            let endpoint = if body.starts_with('[') { Endpoint::Batch } else { Endpoint::Events };
            Submission::split(endpoint, &headers(&all), KeyKind::Server, body.as_bytes(), &LIMITS).unwrap().form
        };
        let binary = [("ce-specversion", "1.0")];
        let attributes = BTreeMap::from([("specversion".to_owned(), "1.0".to_owned())]);
        let event = r#"{"specversion":"1.0"}"#;
        assert_eq!(form("application/json", &[], event), EventForm::Plain);
        assert_eq!(form("application/json", &[], "[{}]"), EventForm::Plain);
        assert_eq!(form("application/json", &binary, event), EventForm::Binary(attributes));
        assert_eq!(form("application/cloudevents+json", &[], "{}"), EventForm::Structured);
        assert_eq!(form("Application/CloudEvents+JSON; charset=utf-8", &binary, "{}"), EventForm::Structured);
        assert_eq!(form("application/cloudevents-batch+json", &binary, "[{}]"), EventForm::Structured);
    }

    #[test]
    fn quotes_around_an_attribute_are_undone_and_then_the_percent_encoding() {
        let value = |text: &[u8]| attribute_value(&HeaderValue::from_bytes(text).unwrap());
        assert_eq!(value(br#""a b""#).as_deref(), Some("a b"));
        assert_eq!(value(br#" "a\"b\\c%20" "#).as_deref(), Some(r#"a"b\c "#));
        assert_eq!(value(b"%22a%22").as_deref(), Some("\"a\""), "one round");
        assert_eq!(value(b"%2541").as_deref(), Some("%41"), "one round");
        assert_eq!(value("é%E2%82%AC".as_bytes()).as_deref(), Some("é€"));
        for bad in [&b"\"a"[..], b"\"a\\\"", b"\"a\"b", b"\xff", b"%ff", b"%4"] {
            assert_eq!(value(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_attributes_from_headers() {
        let attributes = |pairs: &[(&'static str, &str)]| cloud_event_attributes(&headers(pairs));
        let full =
            attributes(&[("ce-specversion", "1.0"), ("ce-source", "/caf%C3%A9"), ("accept", "x")]).unwrap().unwrap();
        assert_eq!(full["source"], "/café");
        assert_eq!(full.len(), 2);
        assert_eq!(attributes(&[("ce-id", "1")]).unwrap().unwrap().len(), 1, "that one is missing is said later");
        assert!(attributes(&[("accept", "x")]).unwrap().is_none());
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert!(attributes(&[("ce-specversion", "1.0"), ("ce-source", bad)]).is_err(), "{bad}");
        }
        let mut twice = headers(&[("ce-specversion", "1.0"), ("ce-id", "a")]);
        twice.append("ce-id", HeaderValue::from_static("b"));
        assert!(cloud_event_attributes(&twice).is_err());
    }

    #[test]
    fn an_idempotency_key_may_be_quoted() {
        let key = |text: &str| idempotency_key(&headers(&[("idempotency-key", text)]));
        assert_eq!(key("abc").unwrap().unwrap().as_str(), "abc");
        assert_eq!(key("\"abc\"").unwrap().unwrap().as_str(), "abc");
        assert!(key("").is_err());
        assert!(key(&"x".repeat(257)).is_err());
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
        assert_eq!(key(r#""a\"b\\""#).unwrap().unwrap().as_str(), r#"a"b\"#);
        assert!(key("\"abc").is_err() && key("\"a\"b").is_err());
    }

    #[test]
    fn two_idempotency_keys_never_become_one() {
        let key = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            idempotency_key(&HeaderMap::from_iter([(axum::http::HeaderName::from_static("idempotency-key"), value)]))
        };
        assert!(key(b"a\xff").is_err() && key(b"a\xfe").is_err(), "not UTF-8");
        assert!(key("a\u{fffd}".as_bytes()).is_err(), "what a gateway makes of it");
        assert_eq!(key("é".as_bytes()).unwrap().unwrap().as_str(), "é");
        assert_eq!(key(" \ta\t ".as_bytes()).unwrap().unwrap().as_str(), "a");
        assert_eq!(
            key("a\u{a0}".as_bytes()).unwrap().unwrap().as_str(),
            "a\u{a0}",
            "only space and tab are no part of it"
        );
    }
}
