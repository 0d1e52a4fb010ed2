//! What a client knows about its own events: a file that is on disk before the client continues.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The answer that the client got for an event in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AttemptResult {
    /// The client has a receipt.
    Acked,
    /// The event was refused, and nothing was written.
    Rejected,
    /// There was no clear answer: the event may have been written.
    Unknown,
}

/// One event in one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub event_id: String,
    /// SHA-256 of the event's bytes, in hex.
    pub payload_hash: String,
    pub batch: usize,
    pub attempt: u32,
    pub result: AttemptResult,
    /// The partition and offset on `raw-events` in the receipt.
    pub partition: Option<i32>,
    pub offset: Option<i64>,
}

impl Entry {
    /// An event that another producer wrote to `raw-events`, at this partition and offset.
    pub fn written(event_id: impl Into<String>, bytes: &[u8], (partition, offset): (i32, i64)) -> Self {
        Entry {
            event_id: event_id.into(),
            payload_hash: hash(bytes),
            batch: 0,
            attempt: 1,
            result: AttemptResult::Acked,
            partition: Some(partition),
            offset: Some(offset),
        }
    }
}

/// SHA-256 in hex.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The open file.
#[derive(Clone, Debug)]
pub struct ClientLedger(Arc<Mutex<File>>);

impl ClientLedger {
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(ClientLedger(Arc::new(Mutex::new(file))))
    }

    /// Writes the entries; they are on disk when this returns.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, entries: &[Entry]) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&lines)?;
        Ok(file.sync_data()?)
    }
}

/// Everything that the client knows about one event.
#[derive(Clone, Debug, Default)]
pub struct SentEvent {
    /// One hash, unless the client sent different bytes with the same id.
    pub payload_hashes: Vec<String>,
    pub receipts: Vec<(i32, i64)>,
    pub acked: bool,
    pub unknown: bool,
}

/// By event id.
pub type SentEvents = BTreeMap<String, SentEvent>;

/// Reads a ledger back.
///
/// # Errors
/// If the file is not a ledger.
pub fn read(path: &Path) -> anyhow::Result<SentEvents> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut sent_events = SentEvents::new();
    for line in BufReader::new(file).lines() {
        add(&mut sent_events, serde_json::from_str(&line?)?);
    }
    Ok(sent_events)
}

pub(crate) fn add(sent_events: &mut SentEvents, entry: Entry) {
    let sent_event = sent_events.entry(entry.event_id).or_default();
    if !sent_event.payload_hashes.contains(&entry.payload_hash) {
        sent_event.payload_hashes.push(entry.payload_hash);
    }
    match entry.result {
        AttemptResult::Acked => sent_event.acked = true,
        AttemptResult::Unknown => sent_event.unknown = true,
        AttemptResult::Rejected => {}
    }
    sent_event.receipts.extend(entry.partition.zip(entry.offset));
}
