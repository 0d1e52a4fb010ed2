//! From `raw-events` to one outcome per record: deduplicate, limit, score, store, publish.
//!
//! Owns the order of the effects and the rule that an invocation either finishes all of them or fails. The decisions
//! about a record are in `pipeline::decisions`; the calls to services are in the adapters. Every effect is idempotent
//! by record or by origin, so the next delivery repairs a crash between any two effects (DESIGN section 6).

mod address_counts;
mod app;
mod block_list;
mod config;
mod error;
mod handler;
mod publishing;
mod quarantine;
mod report;
mod storing;
mod trace;

pub use app::{App, ConnectError, Ports};
pub use config::{Config, Policy, UnknownTypes};
pub use error::{ProcessorError, Step};
pub use handler::handle;
