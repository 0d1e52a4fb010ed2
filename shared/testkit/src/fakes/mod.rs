//! In-memory implementations of the ports.

pub mod access;
pub mod claims;
mod faults;
pub mod history;
pub mod objects;
pub mod publisher;
pub mod redrive;
pub mod replay;
pub mod scorer;
pub mod store;
pub mod unscored;

pub use faults::Faults;
