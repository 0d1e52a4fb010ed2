//! The body of a batch request, cut into events without being parsed.
//!
//! Beyond not panicking: a body that is valid JSON is cut as a JSON parser would, and the depth counted is the true one.

#![no_main]

use event::limits::{Limits, batch_items, line_items};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LIMITS: Limits = Limits { items: 64, item_bytes: 4096, depth: 8 };

fuzz_target!(|data: &[u8]| {
    for item in line_items(data, &LIMITS).into_iter().flatten() {
        if let Ok(bytes) = item.within(&LIMITS) {
            assert!(bytes.len() <= LIMITS.item_bytes);
        }
    }
    let items = batch_items(data, &LIMITS);
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let expected = match &json {
        Value::Array(items) => items,
        Value::Object(members) => match members.get("events") {
            Some(Value::Array(items)) => items,
            _ => return,
        },
        _ => return,
    };
    // More events than allowed, or a second `events`, which a JSON parser passes over in silence.
    let Ok(items) = items else { return };
    assert_eq!(items.len(), expected.len());
    for (item, expected) in items.into_iter().zip(expected) {
        let Ok(bytes) = item.within(&LIMITS) else { continue };
        assert!(depth(expected) <= LIMITS.depth);
        assert_eq!(&serde_json::from_slice::<Value>(bytes).unwrap(), expected);
    }
});

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
