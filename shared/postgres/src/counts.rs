//! Changes of `event_counts_hourly`.

use std::collections::BTreeMap;

use event::Timestamp;
use pipeline::Outcome;
use time::OffsetDateTime;

use crate::statement::{Parameters, parameter};

const HOUR_MS: i64 = 3_600_000;

/// Last in its transaction, so that rows which batches share are locked only until the commit that follows.
pub(crate) const ADD_COUNTS: &str = "
    INSERT INTO event_counts_hourly AS c (hour, tenant, event_type, status, events)
    SELECT w.hour, w.tenant, w.event_type, w.status, w.events
    FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int8[])
        AS w (hour, tenant, event_type, status, events)
    ON CONFLICT (hour, tenant, event_type, status) DO UPDATE SET events = c.events + excluded.events";

/// Events to add to the counts or to take from them.
pub(crate) struct CountChange<'a> {
    pub received_at: Timestamp,
    pub tenant: &'a str,
    pub event_type: &'a str,
    pub outcome: Outcome,
    pub by: i64,
}

/// The parameters of [`ADD_COUNTS`]. Rows are always in the same order, so that two transactions cannot deadlock.
#[derive(Default)]
pub(crate) struct CountColumns<'a> {
    hour: Vec<OffsetDateTime>,
    tenant: Vec<&'a str>,
    event_type: Vec<&'a str>,
    status: Vec<&'static str>,
    events: Vec<i64>,
}

impl<'a> CountColumns<'a> {
    pub(crate) fn of(changes: impl Iterator<Item = CountChange<'a>>) -> Self {
        let mut counts = BTreeMap::<(i64, &str, &str, Outcome), i64>::new();
        for CountChange { received_at, tenant, event_type, outcome, by } in changes {
            let hour = received_at.as_millis().div_euclid(HOUR_MS);
            *counts.entry((hour, tenant, event_type, outcome)).or_default() += by;
        }
        let mut columns = Self::default();
        for ((hour, tenant, event_type, outcome), count) in counts {
            columns.hour.push(Timestamp::from_millis(hour * HOUR_MS).to_utc());
            columns.tenant.push(tenant);
            columns.event_type.push(event_type);
            columns.status.push(outcome.as_str());
            columns.events.push(count);
        }
        columns
    }

    pub(crate) fn parameters(&self) -> Parameters<'_, 5> {
        [
            parameter(&self.hour),
            parameter(&self.tenant),
            parameter(&self.event_type),
            parameter(&self.status),
            parameter(&self.events),
        ]
    }
}
