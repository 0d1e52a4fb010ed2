//! Restores the rows from which outcomes were published.

use std::collections::BTreeMap;

use event::Timestamp;
use pipeline::Record;
use pipeline::chain;
use pipeline::decisions::restoration::{ArchivedOutcome, Effect};
use pipeline::ports::{EventPlace, LateScore, LedgerEntry};
use pipeline::tracked::{Decided, Tracked};
use tokio::time::Instant;

use crate::App;
use crate::counts::Counts;
use crate::error::ReplayerError;
use crate::request::Order;

/// What to record for a batch of outcomes, grouped by the time of the first recording: that time is a column of every
/// row, and one transaction has one time.
#[derive(Default)]
struct Recordings<'a> {
    outcomes: BTreeMap<Timestamp, Outcomes<'a>>,
    /// Late scores, which are stored after the outcomes, because a score needs its event's row.
    late_scores: BTreeMap<Timestamp, Vec<LateScore>>,
}

/// Records, and the archived ledger entry of each.
#[derive(Default)]
struct Outcomes<'a> {
    records: Vec<Tracked<'a, Decided>>,
    archived: Vec<LedgerEntry>,
}

impl<'a> Recordings<'a> {
    fn read(records: &'a [Record], order: &Order, counts: &mut Counts) -> Self {
        let mut recordings = Recordings::default();
        for record in records {
            let value = record.value.as_deref().unwrap_or_default();
            let archived = match ArchivedOutcome::read(value) {
                Ok(archived) => archived,
                Err(error) => {
                    tracing::error!(record = %record.position, error = chain(&error), "an archived record was skipped: nothing can be restored from it");
                    counts.add_unreadable(&record.position);
                    continue;
                }
            };
            let event_type = archived.event_type.as_deref();
            if !order.means(event_type, archived.entry.key.as_ref().map(|key| key.tenant.as_str())) {
                counts.left_out += 1;
                continue;
            }
            counts.add(archived.entry.outcome, event_type, value.len());
            let at = archived.entry.recorded_at;
            if let Some(record) = archived.record() {
                let outcomes = recordings.outcomes.entry(at).or_default();
                outcomes.records.push(record);
                outcomes.archived.push(archived.entry);
            } else if let Effect::ScoredLater(score) = archived.effect {
                counts.restored.get_or_insert_default().late_scores += 1;
                recordings.late_scores.entry(at).or_default().push(*score);
            }
        }
        recordings
    }
}

/// Counts the selected records, and unless the run is dry records them. Repeating it changes nothing.
///
/// # Errors
/// If Postgres still fails after bounded retries; some of the records may have been recorded then.
pub async fn restore(
    app: &App,
    order: &Order,
    is_dry: bool,
    records: &[Record],
    counts: &mut Counts,
    deadline: Instant,
) -> Result<(), ReplayerError> {
    let recordings = Recordings::read(records, order, counts);
    if is_dry {
        return Ok(());
    }
    let restored = counts.restored.get_or_insert_default();
    for (at, Outcomes { records, archived }) in recordings.outcomes {
        let record = || app.ports.store.record(&records, at);
        let entries = app.postgres.call_each(deadline, "recording outcomes", archived.len(), record).await?;
        for (archived, entry) in archived.iter().zip(&entries).filter(|(archived, entry)| archived != entry) {
            tracing::warn!(
                record = %entry.position,
                archived = %archived.outcome,
                found = %entry.outcome,
                "the ledger has another entry for this record already, and keeps it"
            );
            restored.differing += 1;
        }
    }
    for (at, scores) in recordings.late_scores {
        let settle = || app.ports.unscored.settle(scores.clone(), at);
        let settled = app.postgres.call(deadline, "storing late scores", settle).await?;
        restored.scored += settled.len() as u64;
        // These late scores were restored from published outcomes, so they need not be published again.
        let places: Vec<EventPlace> = settled.into_iter().map(|score| score.event.place).collect();
        let mark = || app.ports.unscored.mark_published(&places);
        app.postgres.call(deadline, "marking late scores", mark).await?;
    }
    Ok(())
}
