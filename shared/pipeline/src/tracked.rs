//! A record on its way through the pipeline: one value, which collects the result of each step.
//!
//! Its type parameter says which steps it has passed, so that code that skips a step does not compile: only a record
//! that is [`Decided`] can be stored. A record whose outcome is known early is closed, and later steps pass it on.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use event::{EventKey, Facts, IdSource, Origin, PayloadHash, RecordDigest, Timestamp};
use serde_json::value::RawValue;

use crate::ports::RiskScore;
use crate::{Outcome, Position, ReasonTag, TraceId};

/// JSON text, byte for byte as the client sent it. Two values are equal if their bytes are.
#[derive(Clone, Debug)]
pub struct Payload<'a>(pub Cow<'a, RawValue>);

impl Payload<'_> {
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The same, independent of the bytes that it was read from.
    pub fn into_owned(self) -> Payload<'static> {
        Payload(Cow::Owned(self.0.into_owned()))
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Payload<'_> {}

/// What is known about the event in a record. Borrows from the record's bytes where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub key: EventKey,
    pub id_source: IdSource,
    pub event_type: Cow<'a, str>,
    /// Version of the schema that the payload meets.
    pub schema_version: u32,
    /// When ingest received the event, or for a bare event Kafka's timestamp of its first copy. Not checked, however
    /// wrong: refusing an event because of a producer's clock would lose it, and every store can hold any instant.
    pub received_at: Timestamp,
    /// Its record has no time: it counts as received when the ledger first saw it. Until the ledger is asked, that is the
    /// time of this run; after a redelivery, its entry knows better ([`crate::ports::LedgerEntry::recorded_at`]).
    pub undated: bool,
    pub occurred_at: Option<Timestamp>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<Cow<'a, str>>,
    pub user_id: Option<Cow<'a, str>>,
    /// What statistics keep of it.
    pub facts: Facts,
    pub payload_hash: PayloadHash,
    pub payload: Payload<'a>,
}

impl Event<'_> {
    /// The same, independent of the bytes that it was read from.
    pub fn into_owned(self) -> Event<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Event {
            event_type: owned(self.event_type),
            user_agent: self.user_agent.map(owned),
            user_id: self.user_id.map(owned),
            payload: self.payload.into_owned(),
            key: self.key,
            id_source: self.id_source,
            schema_version: self.schema_version,
            received_at: self.received_at,
            undated: self.undated,
            occurred_at: self.occurred_at,
            ip: self.ip,
            facts: self.facts,
            payload_hash: self.payload_hash,
        }
    }
}

/// What is known about the content of a closed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    Event(Event<'a>),
    /// It holds no event that this build can read, or only its outcome is available.
    Partly {
        key: Option<EventKey>,
        /// Set only if the type is known, so that it can be a metric label.
        event_type: Option<Cow<'a, str>>,
        received_at: Option<Timestamp>,
        ip: Option<IpAddr>,
        /// What statistics keep of it, if its outcome is restored.
        facts: Facts,
    },
}

impl Known<'_> {
    /// For a record of which nothing could be read.
    pub const NOTHING: Known<'static> =
        Known::Partly { key: None, event_type: None, received_at: None, ip: None, facts: Facts::NONE };
}

/// Whether a record still goes through the steps or has its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State<'a, S> {
    /// It holds an event, and no step so far has decided against storing it.
    Open { event: Event<'a>, found: S },
    /// It ends without a row in `events`: `duplicate`, `blocked` or `dead_lettered`.
    Closed {
        outcome: Outcome,
        /// `<tag>` or `<tag>: <detail>`, as the ledger writes it.
        reason: String,
        known: Known<'a>,
    },
}

/// A record and the results of the steps so far. `S` is the last step's result for an open record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked<'a, S> {
    pub position: Position,
    /// `None` if the record could not be decoded, or if an outcome from before there were digests is restored.
    pub digest: Option<RecordDigest>,
    /// The incarnation of its log, if it is known before the ledger is asked: only when an outcome is restored.
    pub incarnation: Option<i32>,
    pub origin: Origin,
    /// The trace that the record belongs to, if it names one.
    pub trace_id: Option<TraceId>,
    pub state: State<'a, S>,
}

/// Found by reading a record: it holds an event that meets its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read;

/// Found by deduplication: no other record holds the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// It claimed its id in an earlier delivery, which may have failed at any later step, or it is too old to claim the
    /// id. It does not count towards its address's limit again.
    pub redelivered: bool,
}

/// Found by the limits: its address is neither blocked nor over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted;

/// What to store about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    /// `None` means that it will be scored later.
    pub risk: Option<RiskScore>,
}

impl<'a, S> Tracked<'a, S> {
    /// The event and the last step's result, if the record is still open.
    pub fn open(&self) -> Option<(&Event<'a>, &S)> {
        match &self.state {
            State::Open { event, found } => Some((event, found)),
            State::Closed { .. } => None,
        }
    }

    /// The tag of the reason, if the record is closed and this build knows it.
    pub fn reason_tag(&self) -> Option<ReasonTag> {
        match &self.state {
            State::Open { .. } => None,
            State::Closed { reason, .. } => ReasonTag::of(reason),
        }
    }

    /// The event that the record holds, whether or not it is open.
    pub fn event(&self) -> Option<&Event<'a>> {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => Some(event),
            State::Closed { known: Known::Partly { .. }, .. } => None,
        }
    }

    pub fn key(&self) -> Option<&EventKey> {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => Some(&event.key),
            State::Closed { known: Known::Partly { key, .. }, .. } => key.as_ref(),
        }
    }

    pub fn event_type(&self) -> Option<&str> {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => Some(&event.event_type),
            State::Closed { known: Known::Partly { event_type, .. }, .. } => event_type.as_deref(),
        }
    }

    pub fn received_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => Some(event.received_at),
            State::Closed { known: Known::Partly { received_at, .. }, .. } => *received_at,
        }
    }

    /// What statistics keep of it.
    pub fn facts(&self) -> &Facts {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => &event.facts,
            State::Closed { known: Known::Partly { facts, .. }, .. } => facts,
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match &self.state {
            State::Open { event, .. } | State::Closed { known: Known::Event(event), .. } => event.ip,
            State::Closed { known: Known::Partly { ip, .. }, .. } => *ip,
        }
    }

    /// Gives an open record the result of the next step. A closed one stays as it is.
    ///
    /// # Errors
    /// The error of the step.
    pub fn try_advance<T, E>(self, step: impl FnOnce(&Event<'a>, S) -> Result<T, E>) -> Result<Tracked<'a, T>, E> {
        let Tracked { position, digest, incarnation, origin, trace_id, state } = self;
        let state = match state {
            State::Open { event, found } => {
                let found = step(&event, found)?;
                State::Open { event, found }
            }
            State::Closed { outcome, reason, known } => State::Closed { outcome, reason, known },
        };
        Ok(Tracked { position, digest, incarnation, origin, trace_id, state })
    }

    /// Like [`Tracked::try_advance`], for a step that cannot fail.
    pub fn advance<T>(self, step: impl FnOnce(&Event<'a>, S) -> T) -> Tracked<'a, T> {
        match self.try_advance(|event, found| Ok::<T, std::convert::Infallible>(step(event, found))) {
            Ok(tracked) => tracked,
        }
    }

    /// Closes an open record with this outcome. A record that is already closed keeps its outcome.
    pub fn close(&mut self, outcome: Outcome, reason: impl fmt::Display) {
        if self.open().is_some() {
            self.end(outcome, reason);
        }
    }

    /// Closes a record with this outcome, also if it already has another.
    pub fn end(&mut self, outcome: Outcome, reason: impl fmt::Display) {
        let reason = reason.to_string();
        let nothing = State::Closed { outcome, reason: String::new(), known: Known::NOTHING };
        let known = match std::mem::replace(&mut self.state, nothing) {
            State::Open { event, .. } => Known::Event(event),
            State::Closed { known, .. } => known,
        };
        self.state = State::Closed { outcome, reason, known };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::samples::read;

    #[test]
    fn a_record_is_closed_once_and_passed_on_as_it_is() {
        let mut record = read("t/0/1", "a", "x");
        record.close(Outcome::Duplicate, "already-claimed: t/0/0");
        record.close(Outcome::Blocked, "address-rate");
        let record = record.advance(|_, Read| unreachable!("it is closed"));
        let expected = Tracked::<Claimed> {
            state: State::Closed {
                outcome: Outcome::Duplicate,
                reason: "already-claimed: t/0/0".into(),
                known: Known::Event(read("t/0/1", "a", "x").event().unwrap().clone()),
            },
            position: Position::new("t", 0, 1),
            digest: read("t/0/1", "a", "x").digest,
            incarnation: None,
            origin: "t/0/1".parse().unwrap(),
            trace_id: None,
        };
        assert_eq!(record, expected);
        assert!(record.open().is_none() && record.key().is_some());
    }
}
