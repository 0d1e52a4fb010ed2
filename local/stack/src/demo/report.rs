//! The figures of a run: a table for people, one JSON line for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Everything the demo counted. Durations in milliseconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// Events sent over HTTP plus records written to `raw-events` as a foreign producer.
    pub sent: u64,
    /// Acknowledged by Kafka.
    pub accepted: u64,
    pub rejected: BTreeMap<String, u64>,
    /// Lines of the input that are not events.
    pub bad_lines: usize,
    /// Rows in `events`: valid and fraud.
    pub persisted: u64,
    pub fraud: u64,
    pub duplicate: u64,
    pub blocked: u64,
    pub dead_lettered: u64,
    /// Records of `raw-events` in the archive, each offset once.
    pub archived: u64,
    pub archive_bytes_before: u64,
    pub archive_bytes_after: u64,
    /// Time from a POST until the outcome of its last record is visible in Postgres.
    pub visible_p50_ms: u64,
    pub visible_p99_ms: u64,
    /// Time from the first POST until the last record is stored, published and archived.
    pub seconds: f64,
    pub events_per_second: f64,
    /// CPU seconds of each function's processes, user and system.
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Accepted records without exactly one outcome, plus records below the checkpoint without an outcome, plus
    /// accepted records that are missing in the archive.
    pub unaccounted: u64,
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejected: u64 = self.rejected.values().sum();
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<28} {value:>12}");
        line("sent", self.sent.to_string())?;
        line("accepted", self.accepted.to_string())?;
        line("rejected", rejected.to_string())?;
        for (reason, count) in &self.rejected {
            line(&format!("  {reason}"), count.to_string())?;
        }
        line("bad lines in the input", self.bad_lines.to_string())?;
        line("persisted", self.persisted.to_string())?;
        line("  fraud among them", self.fraud.to_string())?;
        line("duplicate", self.duplicate.to_string())?;
        line("blocked", self.blocked.to_string())?;
        line("dead-lettered", self.dead_lettered.to_string())?;
        line("archived", self.archived.to_string())?;
        line("  bytes before compression", self.archive_bytes_before.to_string())?;
        line("  bytes after compression", self.archive_bytes_after.to_string())?;
        line("POST to row visible, p50", format!("{} ms", self.visible_p50_ms))?;
        line("POST to row visible, p99", format!("{} ms", self.visible_p99_ms))?;
        line("whole chain", format!("{:.2} s", self.seconds))?;
        line("events per second", format!("{:.0}", self.events_per_second))?;
        for (function, seconds) in &self.cpu_seconds {
            let rate = if *seconds > 0.0 { self.accepted_f64() / seconds } else { 0.0 };
            line(&format!("CPU of {function}"), format!("{seconds:.2} s"))?;
            line("  events per CPU-second", format!("{rate:.0}"))?;
        }
        line("unaccounted", self.unaccounted.to_string())
    }
}

impl DemoReport {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn accepted_f64(&self) -> f64 {
        self.accepted as f64
    }
}
