//! Where the bytes of a record go that is too large to publish ([`crate::decisions::size`]).

use event::{Origin, RecordDigest};

use crate::Position;
use crate::ports::path_of;

/// What the keys of such objects start with.
pub const PREFIX: &str = "quarantine/";
/// An object holds one line in the format of the archive, compressed with zstd.
pub const EXTENSION: &str = ".ndjson.zst";

/// The key of the object with the bytes of a record:
/// `quarantine/topic=raw-events/partition=0/00000000000000000005.<digest>.ndjson.zst`. `digest` is that of the record
/// itself, which may be a copy with another origin.
pub fn key(position: &Position, digest: Option<RecordDigest>) -> String {
    let record: Origin = position.as_origin(digest);
    format!("{PREFIX}{}{EXTENSION}", path_of(&record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_record_whatever_its_incarnation() {
        let position = Position::new("raw-events", 3, 5);
        let plain = "quarantine/topic=raw-events/partition=3/00000000000000000005.ndjson.zst";
        assert_eq!(key(&position, None), plain);
        let digest = Some(RecordDigest([1; RecordDigest::BYTES]));
        let named = key(&position.clone().in_incarnation(2), digest);
        assert_eq!(named, plain.replace(".ndjson", ".01010101010101010101010101010101.ndjson"));
        assert_eq!(named, key(&position, digest));
    }
}
