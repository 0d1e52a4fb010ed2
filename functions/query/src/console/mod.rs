//! Pages for operators: what happens, what went wrong, and the means to act ([ADR 43](../../../docs/adr/0043-console.md)).
//!
//! Owns sessions, pages and forms. Reads through the ports of `query`, and changes nothing itself: it asks the maintainer and
//! the redriver, which have the audit trail.

mod assets;
mod audit;
mod blocks;
mod campaigns;
mod channel;
mod chart;
mod dead_letters;
mod desk;
mod error;
mod events;
mod frame;
mod functions;
mod keys;
mod layout;
mod operator;
mod overview;
mod routes;
mod session;
mod setup;
mod sign_in;
mod timeline;

pub(crate) use desk::Desk;
pub(crate) use routes::routes;
pub(crate) use setup::Console;
pub use setup::ConsolePorts;
