//! The Postgres adapter: the system of record.
//!
//! Owns the schema and its migrations, the one transaction that records a batch ([`PostgresEventStore`]), claims for
//! `DEDUP_STORE=postgres` ([`PostgresClaims`]), keys, limits, blocks, marks and trails for `ACCESS_STORE=postgres`, the ledger's sums, what of it has no row any more, the history of one event ([`PostgresEventHistory`]), searches ([`PostgresEventSearch`]),
//! late scores and their outbox ([`PostgresUnscoredEvents`]), runs of the replayer ([`PostgresReplay`]), what statistics say ([`PostgresStatistics`]), webhooks ([`PostgresWebhooks`]), fingerprints,
//! partitions and retention. Does not own the verdicts on records and the handling of errors (`pipeline`).
//!
//! Works directly and through a pooler that gives each transaction another connection (`DB_POOLER`): every unit of work is
//! one transaction or one statement, and nothing needs a session. Without a pooler, the statements of a batch have names.

mod access;
mod aggregates;
mod claims;
mod config;
mod counts;
mod database;
mod error;
pub mod fingerprint;
mod history;
mod iam;
pub mod ledger;
mod login;
pub mod lost_events;
pub mod migrations;
pub mod partitions;
mod replay;
mod search;
mod statement;
mod stats;
mod store;
mod text;
mod unscored;
pub mod verification;
mod webhooks;

pub use access::{
    PostgresAddressCounters, PostgresApiKeys, PostgresAuditTrail, PostgresBlockList, PostgresRateLeases,
    PostgresRedriveMarks,
};
pub use aggregates::{Drain, LogEnd, Pass, PostgresAggregates, Verification};
pub use claims::PostgresClaims;
pub use config::{PostgresConfig, UnusableLogin};
pub use database::Database;
pub use error::{PostgresError, StatementError};
pub use history::PostgresEventHistory;
pub use replay::PostgresReplay;
pub use search::PostgresEventSearch;
pub use stats::PostgresStatistics;
pub use store::PostgresEventStore;
pub use unscored::PostgresUnscoredEvents;
pub use webhooks::PostgresWebhooks;
