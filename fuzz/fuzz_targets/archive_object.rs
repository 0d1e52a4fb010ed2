//! Objects of the archive: bytes from a bucket that other tools may write to.
//!
//! Beyond not panicking or looping: whatever an object holds, what is given is in its partition and range, in order, and
//! each offset once. The first byte of the input says how to make objects of the rest.

#![no_main]

use std::sync::Arc;

use archive::{ArchiveReader, Filter};
use libfuzzer_sys::fuzz_target;
use pipeline::ports::ObjectStore;
use testkit::fakes::objects::FakeObjects;

/// A dense one, one with gaps, and a copy of the latter's range with other bytes: all three overlap.
const NAMES: [&str; 3] = ["00000000000000000000-00000000000000000003", "{}.n3", "{}.n3.x0123456789ab"];
const FOLDER: &str = "raw/topic=raw-events/dt=2025-11-20/hour=17/partition=0";
const RANGE: &str = "00000000000000000002-00000000000000000009";

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else { return };
    let objects = Arc::new(FakeObjects::default());
    // Parted by a NUL, which no line has.
    let bodies = rest.split(|byte| *byte == 0).take(NAMES.len());
    let bodies: Vec<Vec<u8>> = match how {
        // Bytes as they are, so that decompression is fuzzed too.
        b'z' => vec![rest.to_vec(); NAMES.len()],
        // Lines that compression hides from the fuzzer otherwise.
        _ => bodies.map(|lines| zstd::encode_all(lines, 1).unwrap()).collect(),
    };
    for (name, body) in NAMES.iter().zip(bodies) {
        objects.overwrite(&format!("{FOLDER}/{}.ndjson.zst", name.replace("{}", RANGE)), body);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(read(objects));
});

async fn read(objects: Arc<dyn ObjectStore>) {
    let filter = Filter::topic("raw-events");
    let mut records = ArchiveReader::new(Arc::clone(&objects)).records(&filter).await.unwrap();
    let (mut last, mut errors) = (None, 0);
    loop {
        match records.next().await {
            Ok(Some(record)) => {
                assert_eq!((&*record.position.topic, record.position.partition), ("raw-events", 0));
                assert!((0..=9).contains(&record.position.offset));
                assert!(last < Some(record.position.offset), "offsets rise, each given once");
                last = Some(record.position.offset);
            }
            Ok(None) => break,
            // An error costs the rest of its object, and of no other.
            Err(_) => errors += 1,
        }
        assert!(errors <= NAMES.len(), "an object fails once");
    }
    if let Ok(coverage) = ArchiveReader::new(objects).coverage(&filter).await {
        assert!(coverage.partitions.values().all(|partition| partition.held.missing(0..=9).len() <= 10));
    }
}
