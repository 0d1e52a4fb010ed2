//! The program against a server that plays ingest, query and the Invoke API.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod operating;
mod pipeline;
mod sending;
