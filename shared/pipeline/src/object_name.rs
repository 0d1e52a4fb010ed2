//! The keys of objects that hold one record: its bytes are a line in the format of the archive, compressed with zstd.
//!
//! A key is `topic=raw-events/partition=0/00000000000000000005.<digest>` under a prefix, so that the same record always has the
//! same key.

use event::{Origin, RecordDigest};

use crate::Position;
use crate::ports::LetterId;

/// What the keys of parked letters start with.
pub const PARKED: &str = "parked/";
/// Where Lambda's triggers write what they give up (AWS's layout; the bucket is theirs to fill).
pub const UNDELIVERED: &str = "aws/lambda/";
/// What the keys of the notes start with that say that such a batch was delivered after all.
pub const DELIVERED: &str = "delivered/";
const QUARANTINE: &str = "quarantine/";

/// The key of a record that is too large to publish ([`crate::decisions::size`]). `digest` is that of the record itself, which
/// may be a copy with another origin.
pub fn quarantined(position: &Position, digest: Option<RecordDigest>) -> String {
    key(QUARANTINE, &position.as_origin(digest), "")
}

/// The topic of the record in the object with that key, if the key is one of [`quarantined`].
pub fn quarantined_topic(key: &str) -> Option<&str> {
    key.strip_prefix(QUARANTINE)?.strip_prefix("topic=")?.split_once('/').map(|(topic, _)| topic)
}

/// The key of a parked letter: `.a3` after its origin says that it was redriven three times.
pub fn parked(letter: &LetterId) -> String {
    key(PARKED, &letter.origin, &format!(".a{}", letter.attempt))
}

fn key(prefix: &str, record: &Origin, suffix: &str) -> String {
    let Origin { topic, partition, offset, digest } = record;
    let digest = digest.map(|digest| format!(".{digest}")).unwrap_or_default();
    format!("{prefix}topic={topic}/partition={partition}/{offset:020}{digest}{suffix}.ndjson.zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_record_whatever_its_incarnation() {
        let position = Position::new("raw-events", 3, 5);
        let plain = "quarantine/topic=raw-events/partition=3/00000000000000000005.ndjson.zst";
        assert_eq!(quarantined(&position, None), plain);
        let digest = Some(RecordDigest([1; RecordDigest::BYTES]));
        let named = quarantined(&position.clone().in_incarnation(2), digest);
        assert_eq!(named, plain.replace(".ndjson", ".01010101010101010101010101010101.ndjson"));
        assert_eq!(named, quarantined(&position, digest));
        assert_eq!(quarantined_topic(&named), Some("raw-events"));
        for other in ["", "parked/topic=t/partition=0/0.ndjson.zst", "quarantine/t", "quarantine/topic=t"] {
            assert_eq!(quarantined_topic(other), None, "{other}");
        }
        let letter = LetterId { origin: position.as_origin(digest), attempt: 3 };
        assert_eq!(parked(&letter), named.replace("quarantine", "parked").replace(".ndjson", ".a3.ndjson"));
    }
}
