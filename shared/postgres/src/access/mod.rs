//! Keys, limits, blocks, redrive marks and audit trails, for deployments without DynamoDB (`ACCESS_STORE=postgres`).

mod address_counters;
mod api_keys;
mod audit_trail;
mod block_list;
mod rate_leases;
mod redrive_marks;
pub(crate) mod retention;

pub use address_counters::PostgresAddressCounters;
pub use api_keys::PostgresApiKeys;
pub use audit_trail::PostgresAuditTrail;
pub use block_list::PostgresBlockList;
pub use rate_leases::PostgresRateLeases;
pub use redrive_marks::PostgresRedriveMarks;
