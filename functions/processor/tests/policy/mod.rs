//! The policy of the instances under test.

use std::num::NonZeroU32;
use std::time::Duration;

use event::TenantId;
use pipeline::breaker::OPEN_FOR;
use pipeline::decisions::limits::LimitPolicy;
use processor::{Policy, UnknownTypes};
use settings::shared::StateStore;

pub fn policy() -> Policy {
    Policy {
        dedup_window: Duration::from_secs(86_400),
        // Below 40 the shared counters are told about every event, so that each batch needs them.
        limits: LimitPolicy { per_minute: NonZeroU32::new(39), block_for: Duration::from_secs(900) },
        block_list_age: Duration::from_secs(2),
        fraud_threshold: 80,
        scorer_timeout: Duration::from_secs(2),
        publish_timeout: Duration::from_secs(10),
        max_record_bytes: 1_500_000,
        unknown_types: UnknownTypes::Wait,
        foreign_tenant: TenantId::new("kafka").unwrap(),
        dedup_store: StateStore::Dynamodb,
        access_store: StateStore::Dynamodb,
        breaker_open: OPEN_FOR,
    }
}
