//! The value of a record on `raw-events`, which anyone with a Kafka client may write.
//!
//! Beyond not panicking: an envelope that parses is the same after writing it again, and the processor has an answer
//! for any value: an event, or a dead letter with a bounded reason.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use event::schema::Registry;
use event::{Envelope, TenantId, Timestamp};
use libfuzzer_sys::fuzz_target;
use pipeline::decisions::intake::Reader;
use pipeline::reason;
use pipeline::tracked::State;
use pipeline::{Position, Record, RecordHeaders, topic};

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::embedded().unwrap());

/// Longest detail of a reason, with the tag in front of it.
const MAX_REASON_BYTES: usize = 1024;

fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = Envelope::parse(data) {
        let written = serde_json::to_vec(&envelope).unwrap();
        let again = Envelope::parse(&written).unwrap();
        assert_eq!(again.key(), envelope.key());
        assert_eq!(again.event_type, envelope.event_type);
        assert_eq!(again.received_at, envelope.received_at);
        assert_eq!(again.occurred_at, envelope.occurred_at);
        assert_eq!(again.data.get(), envelope.data.get());
        assert_eq!(again.payload_hash(), envelope.payload_hash());
        assert_eq!(REGISTRY.check(&envelope).is_ok(), REGISTRY.check(&again).is_ok());
    }

    let record = Record {
        position: Position::new(topic::RAW_EVENTS, 0, 0),
        timestamp: Timestamp::EPOCH,
        key: None,
        value: Some(Bytes::copy_from_slice(data)),
        headers: RecordHeaders::default(),
        undecodable: None,
    };
    let foreign_tenant = TenantId::new("kafka").unwrap();
    let reader = Reader { registry: &REGISTRY, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
    if let State::Closed { reason, .. } = reader.read(&record).state {
        assert!(!reason::tag_text(&reason).is_empty());
        assert!(reason.len() <= MAX_REASON_BYTES && !reason.contains(char::is_control), "{reason:?}");
    }
});
