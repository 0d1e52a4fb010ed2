//! The broker's records and offsets in a file: one line of JSON that describes the content, then the raw batches.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use krafka::testing::{CommittedOffset, FakeBroker};
use serde::{Deserialize, Serialize};

/// Bytes of a batch before its body: the base offset, and the length of the rest.
const BATCH_PREFIX: usize = 8 + 4;

#[derive(Serialize, Deserialize)]
struct SnapshotIndex {
    topics: Vec<TopicSnapshot>,
    commits: Vec<CommitSnapshot>,
}

#[derive(Serialize, Deserialize)]
struct TopicSnapshot {
    name: String,
    partitions: Vec<PartitionSnapshot>,
}

#[derive(Serialize, Deserialize)]
struct PartitionSnapshot {
    log_start_offset: i64,
    next_offset: i64,
    batches: usize,
}

#[derive(Serialize, Deserialize)]
struct CommitSnapshot {
    group: String,
    topic: String,
    partition: i32,
    offset: i64,
}

pub(super) fn write(broker: &FakeBroker, file: &Path) -> anyhow::Result<()> {
    // The batches are shared, not copied, so the broker is locked only for a short time.
    let (contents, batches) = broker.with_state(|state| {
        let (mut topics, mut batches) = (Vec::new(), Vec::new());
        for (name, topic) in &state.topics {
            let mut partitions = Vec::new();
            for of in &topic.partitions {
                let (log_start_offset, next_offset) = (of.log_start_offset, of.next_offset);
                partitions.push(PartitionSnapshot { log_start_offset, next_offset, batches: of.log.len() });
                batches.extend(of.log.iter().cloned());
            }
            topics.push(TopicSnapshot { name: name.clone(), partitions });
        }
        let mut commits = Vec::new();
        for (group, of) in &state.groups {
            for ((topic, partition), committed) in &of.offsets {
                let (group, topic) = (group.clone(), topic.clone());
                commits.push(CommitSnapshot { group, topic, partition: *partition, offset: committed.offset });
            }
        }
        (SnapshotIndex { topics, commits }, batches)
    });
    let folder = file.parent().context("the path of the file has no folder")?;
    let mut out = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    serde_json::to_writer(&mut out, &contents)?;
    out.write_all(b"\n")?;
    for batch in batches {
        out.write_all(&batch)?;
    }
    out.into_inner()?.persist(file)?;
    Ok(())
}

pub(super) fn read(broker: &FakeBroker, file: &Path) -> anyhow::Result<()> {
    let mut from = BufReader::new(File::open(file)?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let contents: SnapshotIndex = serde_json::from_str(&line)?;
    let mut logs = Vec::new();
    for topic in &contents.topics {
        for partition in &topic.partitions {
            logs.push((0..partition.batches).map(|_| read_batch(&mut from)).collect::<anyhow::Result<Vec<Bytes>>>()?);
        }
    }
    let mut logs = logs.into_iter();
    broker.with_state(|state| {
        ensure!(state.topics.is_empty(), "the broker has topics already");
        for topic in &contents.topics {
            state.create_topic(&topic.name, i32::try_from(topic.partitions.len())?);
            let partitions = state.topics.get_mut(&topic.name).context("a topic is missing")?;
            for ((of, kept), log) in partitions.partitions.iter_mut().zip(&topic.partitions).zip(&mut logs) {
                (of.log_start_offset, of.next_offset, of.log) = (kept.log_start_offset, kept.next_offset, log);
            }
        }
        for commit in contents.commits {
            let group = state.groups.entry(commit.group).or_default();
            let committed = CommittedOffset { offset: commit.offset, leader_epoch: -1, metadata: None };
            group.offsets.insert((commit.topic, commit.partition), committed);
        }
        Ok(())
    })
}

fn read_batch(from: &mut impl std::io::Read) -> anyhow::Result<Bytes> {
    let mut batch = vec![0; BATCH_PREFIX];
    from.read_exact(&mut batch)?;
    let length: [u8; 4] = batch[8..].try_into()?;
    let length = u64::from(u32::from_be_bytes(length));
    let read = from.take(length).read_to_end(&mut batch)?;
    ensure!(u64::try_from(read)? == length, "the file ends within a batch");
    Ok(batch.into())
}
