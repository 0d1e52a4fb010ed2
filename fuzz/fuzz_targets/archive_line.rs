//! A line of an archive object, and the name of one.
//!
//! Beyond not panicking: what a line says is the same after writing it again, and a name that parses is spelt the one
//! way that we write.

#![no_main]

use std::sync::Arc;

use archive::{ObjectKey, line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let topic = Arc::from("raw-events");
    if let Ok(record) = line::decode(data, &topic) {
        assert_eq!(line::decode_offset(data).unwrap(), record.position.offset);
        let mut written = Vec::new();
        line::encode(&record, &mut written).unwrap();
        assert_eq!(written.pop(), Some(b'\n'));
        assert!(!written.contains(&b'\n'), "one line");
        assert_eq!(line::decode(&written, &topic).unwrap(), record);
    }
    if let Ok(name) = std::str::from_utf8(data)
        && let Ok(key) = name.parse::<ObjectKey>()
    {
        assert_eq!(key.to_string(), name);
    }
});
