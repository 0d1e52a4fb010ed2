//! Why a record is not simply `valid`.

use std::fmt;

use event::EventError;
use strum::{EnumIter, EnumString, IntoStaticStr};

/// The bounded part of a reason, by which records are counted and dead letters are grouped. Written in kebab case in
/// the ledger, in outcomes and in dead letters. Earlier builds wrote some in snake case; those names are still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, EnumIter, EnumString, IntoStaticStr)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum ReasonTag {
    /// The text in which the trigger delivers key, value or headers cannot be decoded.
    Undecodable,
    /// The record has no value, which in Kafka marks a deletion; events are never deleted this way.
    Tombstone,
    /// The value has no bytes.
    EmptyValue,
    /// The value is an envelope of a version that this build cannot read.
    UnknownEnvelopeVersion,
    /// The value has a member `envelope` but is not an envelope.
    MalformedEnvelope,
    /// The value is not a JSON text.
    #[strum(to_string = "malformed-json", serialize = "malformed_json")]
    MalformedJson,
    /// The value is a JSON text, but not an object.
    #[strum(to_string = "not-an-object", serialize = "not_an_object")]
    NotAnObject,
    /// No event type has that name.
    #[strum(to_string = "unknown-type", serialize = "unknown_type")]
    UnknownType,
    /// The event type has no schema of that version.
    #[strum(to_string = "unknown-schema-version", serialize = "unknown_schema_version")]
    UnknownSchemaVersion,
    /// The event breaks its schema.
    #[strum(to_string = "schema-violation", serialize = "schema_violation")]
    SchemaViolation,
    /// The event has no id, and none can be computed for it.
    Fingerprint,
    /// Its outcome or its dead letter would be larger than the topics take. Its bytes are an object under `quarantine/`.
    TooLarge,
    /// The store refuses this record, also when it is alone.
    StoreRefused,
    /// An earlier batch claimed the event's id for another record.
    AlreadyClaimed,
    /// Another record of the same batch holds the event's id.
    CopyInBatch,
    /// The store has a row of the event, from another record.
    AlreadyStored,
    /// As the three above, but the payloads differ.
    PayloadDiffers,
    /// The address is over its limit of new events in a minute.
    AddressRate,
    /// The address is on the block list.
    AddressBlocked,
    /// The reason of an event's second outcome: it was stored while the scorer was down, and has its score now.
    ScoredLater,
}

impl ReasonTag {
    /// The tag of a reason as it is written in the ledger; `None` if this build does not know it.
    pub fn of(reason: &str) -> Option<Self> {
        tag_text(reason).parse().ok()
    }

    /// What is wrong with an event.
    pub const fn of_event(error: &EventError) -> Self {
        match error {
            EventError::Malformed(_) => ReasonTag::MalformedJson,
            EventError::NotAnObject => ReasonTag::NotAnObject,
            EventError::UnknownType(_) => ReasonTag::UnknownType,
            EventError::UnknownVersion { .. } => ReasonTag::UnknownSchemaVersion,
            EventError::Invalid(_) => ReasonTag::SchemaViolation,
            EventError::Fingerprint(_) => ReasonTag::Fingerprint,
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether records with this reason become dead letters.
    pub const fn is_of_dead_letters(self) -> bool {
        match self {
            ReasonTag::Undecodable
            | ReasonTag::Tombstone
            | ReasonTag::EmptyValue
            | ReasonTag::UnknownEnvelopeVersion
            | ReasonTag::MalformedEnvelope
            | ReasonTag::MalformedJson
            | ReasonTag::NotAnObject
            | ReasonTag::UnknownType
            | ReasonTag::UnknownSchemaVersion
            | ReasonTag::SchemaViolation
            | ReasonTag::Fingerprint
            | ReasonTag::TooLarge
            | ReasonTag::StoreRefused => true,
            ReasonTag::AlreadyClaimed
            | ReasonTag::CopyInBatch
            | ReasonTag::AlreadyStored
            | ReasonTag::PayloadDiffers
            | ReasonTag::AddressRate
            | ReasonTag::AddressBlocked
            | ReasonTag::ScoredLater => false,
        }
    }
}

/// The name of a tag in today's spelling. A name that this build does not know is returned as it is.
pub fn canonical(tag: &str) -> &str {
    match tag.parse::<ReasonTag>() {
        Ok(known) => known.as_str(),
        Err(_) => tag,
    }
}

/// The tag of a reason, as text: the part before the first colon.
pub fn tag_text(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(tag, _)| tag)
}

/// A tag, and a detail for people, which may name a field, an owner or a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub tag: ReasonTag,
    pub detail: String,
}

impl Reason {
    pub fn new(tag: ReasonTag, detail: impl Into<String>) -> Self {
        Reason { tag, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    /// `tag` alone, or `tag: detail`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { write!(f, "{}", self.tag) } else { write!(f, "{}: {}", self.tag, self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn every_tag_is_written_in_kebab_case_and_read_in_both_spellings() {
        for tag in ReasonTag::iter() {
            let text = tag.as_str();
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{text}");
            assert_eq!(text.parse(), Ok(tag));
            assert_eq!(ReasonTag::of(&Reason::new(tag, "a: b").to_string()), Some(tag));
        }
        for old in ["malformed_json", "not_an_object", "unknown_type", "unknown_schema_version", "schema_violation"] {
            assert_eq!(canonical(old), old.replace('_', "-"));
        }
        assert_eq!(canonical("of_a_later_build"), "of_a_later_build");
    }
}
