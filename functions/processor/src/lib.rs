//! From `raw-events` to one outcome per record: deduplicate, limit, score, store, publish.
//!
//! Owns the order of the effects and the rule that an invocation either finishes all of them or fails. What is decided
//! about a record is in `pipeline::decisions`; how a service is called is in the adapters. Every effect is idempotent
//! by record or by origin, so a crash between any two is repaired by the next delivery (DESIGN section 6).

mod app;
mod block_list;
mod config;
mod error;
mod handler;
mod publishing;
mod report;
mod storing;

pub use app::{App, ConnectError, Ports};
pub use config::{Config, DedupStore, Policy};
pub use error::{ProcessorError, Step};
pub use handler::handle;
