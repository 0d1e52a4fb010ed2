//! Objects that hold one record: parked letters, and records that are too large to publish.
//!
//! An object is a line in the format of [`crate::line`], compressed with zstd.

use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use pipeline::Record;

use crate::line;

const ZSTD_LEVEL: i32 = 3;

/// Longest line that is read, in bytes. The broker limits compressed records, so one may have far more than a Lambda event
/// holds; a function with the memory of its README has room for this one.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// The object of a record. The same record always gives the same bytes.
///
/// # Errors
/// If there is no memory for the compression.
pub fn pack(record: &Record) -> io::Result<Bytes> {
    let mut packed = Vec::new();
    line::encode(record, &mut packed)?;
    Ok(zstd::bulk::compress(&packed, ZSTD_LEVEL)?.into())
}

/// The record in an object, on `topic` if it was written there.
///
/// # Errors
/// What is wrong with an object that [`pack`] has not written.
pub fn unpack(object: &[u8], topic: &str) -> Result<Record, &'static str> {
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::new(object).map_err(|_| "it is not compressed with zstd")?;
    let read = decoder.take(MAX_LINE_BYTES).read_to_end(&mut unpacked);
    read.map_err(|_| "it cannot be decompressed")?;
    line::decode(&unpacked, &Arc::from(topic)).map_err(|_| "it does not hold a record")
}

#[cfg(test)]
mod tests {
    use event::Timestamp;
    use pipeline::{Header, Position, RecordHeaders};

    use super::*;

    #[test]
    fn a_record_comes_back_byte_for_byte() {
        for value in [None, Some(Bytes::new()), Some(Bytes::from(vec![1; 6_000_000])), Some("{\"a\":1}".into())] {
            let record = Record {
                position: Position::new("raw-events", 1, 7),
                timestamp: Timestamp::from_millis(5),
                key: Some(Bytes::from_static(b"\xff")),
                value,
                headers: RecordHeaders(vec![Header { name: "none".into(), value: None }]),
                undecodable: None,
            };
            let object = pack(&record).unwrap();
            assert!(object.len() < 10_000, "{}", object.len());
            assert_eq!(unpack(&object, "raw-events").unwrap(), record);
        }
    }

    #[test]
    fn other_objects_are_refused() {
        let not_a_record = zstd::bulk::compress(b"{}", ZSTD_LEVEL).unwrap();
        let mut cut = not_a_record.clone();
        cut.pop();
        for (object, problem) in [
            (b"plain".to_vec(), "it cannot be decompressed"),
            (cut, "it cannot be decompressed"),
            (not_a_record, "it does not hold a record"),
        ] {
            assert_eq!(unpack(&object, "raw-events"), Err(problem));
        }
    }
}
