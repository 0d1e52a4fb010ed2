//! What an event is: identity, origin, time, address, the envelope on `raw-events`, parsing of what clients
//! send, the JSON Schemas that events must meet, and what statistics keep of them.
//!
//! This crate does no I/O and names no AWS crate. It owns every rule about a single event; rules about many
//! events (deduplication, limits, outcomes) live in `pipeline`.

mod address;
mod canonical;
mod client;
mod digest;
mod envelope;
mod facts;
mod id;
pub mod json;
pub mod limits;
mod origin;
pub mod schema;
mod text;
mod timestamp;
mod violation;

pub use address::{AddressKey, AddressRange, AddressRangeError};
pub use canonical::{CanonicalError, fingerprint};
pub use client::{Binding, ClientEvent, EventError, Form, essence, is_json};
pub use digest::{RecordDigest, RecordDigestError};
pub use envelope::{ENVELOPE_VERSION, Envelope, EnvelopeError, IdSource};
pub use facts::{Facts, TypeDefinition, term};
pub use id::{EventId, EventKey, IdError, PayloadHash, TenantId};
pub use origin::{Origin, OriginError, is_topic_name};
pub use text::JsonStr;
pub use timestamp::{TimeDoubt, Timestamp, TimestampError};
