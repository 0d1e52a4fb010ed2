//! Tests of the adapters on the embedded DynamoDB.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_table;
mod claims;
mod rate;
mod redrive;
mod support;
mod tables;
