//! One event as a client sends it, plain or as a CloudEvent in structured or binary mode.
//!
//! Beyond not panicking: what ingest accepts, the processor reads as the same event, and reading is repeatable.

#![no_main]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use event::limits::{Item, Limits};
use event::schema::Registry;
use event::{TenantId, Timestamp};
use ingest::decide::{EventForm, Sender, decide};
use libfuzzer_sys::fuzz_target;
use pipeline::decisions::intake::Reader;
use pipeline::{Position, Record, RecordHeaders, topic};
use testkit::keys::server_key;

const LIMITS: Limits = Limits { items: 500, item_bytes: 256 * 1024, depth: 32 };
const RECEIVED_AT: Timestamp = Timestamp::from_millis(1_795_197_720_000);

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::embedded().unwrap());

fuzz_target!(|data: &[u8]| {
    // Lines in front of an empty one are the attributes of a binary CloudEvent, `name:value`; seeds have them or not.
    let (attributes, body) = attributes(data);
    // Else the media type says the form: both are tried.
    let forms = match attributes {
        Some(attributes) => vec![EventForm::Binary(attributes)],
        None => vec![EventForm::Plain, EventForm::Structured],
    };
    forms.into_iter().for_each(|form| check(form, body));
});

fn check(form: EventForm, body: &[u8]) {
    let key = server_key("key");
    let sender = Sender {
        key: &key,
        address: Some(IpAddr::from([192, 0, 2, 1])),
        user_agent: None,
        traceparent: Bytes::new(),
        received_at: RECEIVED_AT,
        idempotency_key: None,
        form,
    };
    let accept = || decide(Item::single(body), &sender, &REGISTRY, &LIMITS, &mut BytesMut::new());
    let (Ok(accepted), Ok(again)) = (accept(), accept()) else { return };
    assert_eq!(accepted.record, again.record, "deciding is repeatable");

    let record = Record {
        position: Position::new(topic::RAW_EVENTS, 0, 0),
        timestamp: RECEIVED_AT,
        key: accepted.record.key.clone(),
        value: accepted.record.value.clone(),
        headers: RecordHeaders(accepted.record.headers.clone()),
        undecodable: None,
    };
    let foreign_tenant = TenantId::new("kafka").unwrap();
    let reader = Reader { registry: &REGISTRY, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
    let read = reader.read(&record);
    let (event, _) = read.open().expect("what ingest accepts, the processor reads");
    assert_eq!(event.key.id, accepted.id);
    assert_eq!(event.event_type, accepted.event_type);
    assert_eq!(event.received_at, RECEIVED_AT);
    assert_eq!(event.payload.as_str().as_bytes(), body.trim_ascii(), "the client's bytes are untouched");
}

fn attributes(data: &[u8]) -> (Option<BTreeMap<String, String>>, &[u8]) {
    let Some(split) = data.windows(2).position(|pair| pair == b"\n\n") else { return (None, data) };
    let (head, body) = (&data[..split], &data[split + 2..]);
    let Ok(head) = std::str::from_utf8(head) else { return (None, data) };
    let pairs = head.lines().map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned())));
    match pairs.collect::<Option<_>>() {
        Some(attributes) => (Some(attributes), body),
        None => (None, data),
    }
}
