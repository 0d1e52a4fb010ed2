//! The DynamoDB adapters: claims for deduplication in the table `dedup`; API keys, rate leases, address counters, the
//! block list, redrive marks and audit trails in the table `access`.
//!
//! Owns the layout of both tables (`access` in `table.rs`, `dedup` in `claims.rs`), how requests are batched, which
//! failures are repeated at once, and the class of each error. `pipeline` owns the meaning of claims, leases and
//! blocks. Longer retries are left to the caller, because only the caller knows how much time is left.

mod address_counters;
mod api_keys;
mod attributes;
mod audit_trail;
mod block_list;
mod claims;
mod client;
mod error;
mod rate_leases;
mod redrive_marks;
mod rounds;
mod table;
pub mod tables;

pub use address_counters::DynamoAddressCounters;
pub use api_keys::DynamoApiKeys;
pub use audit_trail::DynamoAuditTrail;
pub use block_list::DynamoBlockList;
pub use claims::DynamoClaims;
pub use client::DynamoDb;
pub use error::{Cause, DynamoDbError};
pub use rate_leases::DynamoRateLeases;
pub use redrive_marks::DynamoRedriveMarks;
