//! Upkeep: topics, migrations, partitions and retention; and the operators' commands.
//!
//! Owns what a deployment needs before events can flow and what must be done every day afterwards. Everything is
//! idempotent, and concurrent runs are safe. The adapters own how each thing is done.

mod api_keys;
mod app;
mod block_list;
mod claims;
mod config;
mod endpoints;
mod error;
mod handler;
mod last_records;
mod progress;
mod random;
mod request;
mod upkeep;
mod verification;

pub use app::App;
pub use config::Config;
pub use error::MaintainerError;
pub use handler::handle;
pub use request::Request;
pub use upkeep::MaintenanceReport;
