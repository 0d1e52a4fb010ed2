//! Fakes and contracts. Each port has an in-memory fake with fault injection, and one contract suite that runs on the
//! fake and on the real adapter, so that the fake cannot drift from the adapter.
//!
//! A dev-dependency only: nothing here is linked into a function.

pub mod contracts;
pub mod events;
pub mod fakes;
pub mod keys;
pub mod presigned;
pub mod readme;
pub mod role;
pub mod samples;
