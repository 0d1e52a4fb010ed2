//! What an operator asks of the redriver.
//!
//! Beyond not panicking: a request that is taken is within its bounds, and reading is repeatable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redriver::request::Request;
use serde_json::value::RawValue;

fuzz_target!(|data: &str| {
    let Ok(event) = RawValue::from_string(data.to_owned()) else { return };
    let Ok((request, by)) = Request::parse(&event) else { return };
    match &request {
        Request::Redrive { max_per_sec, .. } | Request::Release { max_per_sec, .. } => {
            assert!((1..=10_000).contains(&max_per_sec.get()));
        }
        Request::Parked { limit, .. } | Request::Undelivered { limit, .. } => {
            assert!((1..=1_000).contains(&limit.get()))
        }
        Request::List { .. } | Request::Deliver { .. } | Request::Audit { .. } => {}
    }
    assert!(by.as_deref().is_none_or(|by| by.chars().count() <= 256 && !by.contains(char::is_control)));
    assert_eq!(Request::parse(&event).unwrap(), (request, by));
});
