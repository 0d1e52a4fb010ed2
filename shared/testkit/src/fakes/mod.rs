//! In-memory implementations of the ports.

pub mod address_counters;
pub mod api_keys;
pub mod audit;
pub mod block_list;
pub mod claims;
mod faults;
pub mod history;
pub mod objects;
pub mod publisher;
pub mod rate_leases;
pub mod redrive;
pub mod replay;
pub mod scorer;
pub mod search;
pub mod statistics;
pub mod store;
pub mod tail;
pub mod unscored;
pub mod webhooks;

pub use faults::Faults;
