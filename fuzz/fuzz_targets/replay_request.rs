//! What an operator asks of the replayer.
//!
//! Beyond not panicking: a request that is taken is within its bounds, names the run that it would write, and can be
//! read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use replayer::request::{MaxPerSec, Mode, Request};
use serde_json::value::RawValue;

fuzz_target!(|data: &str| {
    let Ok(event) = RawValue::from_string(data.to_owned()) else { return };
    let Ok((request, by)) = Request::parse(&event) else { return };
    assert!((1..=MaxPerSec::LARGEST.get()).contains(&request.max_per_sec.get()));
    assert!(request.order.partitions.iter().all(|partition| *partition >= 0));
    assert!(request.order.from.zip(request.order.until).is_none_or(|(from, until)| from < until));
    match &request.mode {
        Mode::Run { name } => assert!((1..=64).contains(&name.len())),
        Mode::DryRun { from_offsets } => {
            assert!(from_offsets.iter().all(|(partition, offset)| *partition >= 0 && *offset >= 0))
        }
    }
    // What the archive is asked for follows from the request alone, whatever the times in it.
    let _ = request.order.filter();
    assert_eq!(Request::parse(&event).unwrap(), (request, by));
});
