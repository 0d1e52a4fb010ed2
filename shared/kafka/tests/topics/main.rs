//! Reading topics without a group: up to their present end, and on and on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cluster;
mod reader;
mod tail;
