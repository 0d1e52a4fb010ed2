//! The services that the pipeline uses, as traits in its own terms. Adapters implement these traits; `testkit` has an
//! in-memory fake of each, and one contract suite per port runs on both.
//!
//! Three rules hold for all ports. `Ok` means that the effect is durable. `Err` means that the result is unknown: the
//! effect may or may not have happened, and the caller may repeat the call. A call with a list returns one answer per
//! item, in the order of the list.

mod address_counters;
mod api_keys;
mod audit;
mod block_list;
mod claims;
mod functions;
mod history;
mod objects;
mod publisher;
mod rate_leases;
mod redrive;
mod replay;
mod scorer;
mod search;
mod store;
mod tail;
mod topics;
mod unscored;

pub use address_counters::{AddressCount, AddressCounters, KEEP_COUNTERS, MinuteTotal};
pub use api_keys::{ApiKey, ApiKeys, KeyHash, KeyHashError, KeyKind, Scope};
pub use audit::{ACCESS_TRAIL, ActionState, AuditEntry, AuditTrail, KEEP_TRAIL};
pub use block_list::{Block, BlockList, KEEP_BLOCKS};
pub use claims::{Claim, ClaimStore, ClaimVerdict, HeldClaim, HeldClaims};
pub use functions::{FunctionCaller, FunctionError};
pub use history::{EventHistory, History, MAX_HISTORY, StoredEvent};
pub use objects::{ObjectInfo, ObjectStore, PutResult};
pub use publisher::{NewRecord, RecordPublisher};
pub use rate_leases::{Grant, RateLeases, TokenRequest};
pub use redrive::{BeginVerdict, KEEP_MARKS, LetterId, LetterStep, Mark, MarkKey, MarkState, RedriveMarks};
pub use replay::{ReplayProgress, ReplayRuns, ReprocessedOutcomes, TakeOver};
pub use scorer::{Score, ScoreRequest, Scorer};
pub use search::{EventSearch, FoundEvent, SearchPage, SearchPlace, SearchRequest, StoredStatus};
pub use store::{EventStore, LedgerEntry, RiskScore};
pub use tail::{LossCause, LostSpan, TailPlace, TailRead, TailStart, TopicFollower, TopicId, TopicTail};
pub use topics::{PartitionSpan, TopicReader, TopicSource};
pub use unscored::{EventPlace, LateOutcome, LateScore, UnscoredEvent, UnscoredEvents};
