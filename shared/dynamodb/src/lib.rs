//! The DynamoDB adapter: claims for deduplication, and access (API keys, rate leases, address counters, blocks).
//!
//! Owns the layout of the tables `dedup` and `access`, how requests are batched, which failures are repeated at
//! once, and how each one is classed. Leaves to `pipeline` what claims, leases and blocks mean, and to the caller
//! longer retries, because only the caller knows how much time is left.

mod access;
mod attributes;
mod claims;
mod client;
mod error;
mod quick_retries;
pub mod tables;

pub use access::DynamoAccess;
pub use claims::DynamoClaims;
pub use client::DynamoDb;
pub use error::{Cause, DynamoDbError};
