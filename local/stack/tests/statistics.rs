//! Statistics through the real binaries: events over HTTP, counted by the aggregator, compared with what was sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::time::Duration;

use serde_json::{Value, json};
use stack::client::JsonClient;
use stack::demo::make_keys;
use stack::options::Options;
use stack::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);
