//! One suite per port. An adapter's test calls it with a fresh adapter; a failed promise panics with its name.

pub mod access;
pub mod claims;
pub mod history;
pub mod objects;
pub mod publisher;
pub mod redrive;
pub mod replay;
pub mod scorer;
pub mod store;
pub mod unscored;
