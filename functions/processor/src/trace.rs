//! The spans and log lines of single records: of those whose trace is kept, and of dead letters.

use event::Timestamp;
use pipeline::ports::LedgerEntry;
use pipeline::reason::tag_text;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Outcome, Record};
use traces::Attribute;
use traces::batch::{BatchTrace, Interval, RecordNote};

/// The most lines about dead letters of one batch. A flood of bad events must not become a flood of lines, which cost more than
/// the events.
const MAX_LINES: usize = 10;

/// Notes how each record ended. `stored` is when the batch was written.
pub fn records(
    trace: &mut BatchTrace,
    delivered: &[Record],
    records: &[Tracked<'_, Decided>],
    ledger: &[LedgerEntry],
    stored: Option<Interval>,
) {
    if !trace.is_noted() {
        return;
    }
    for ((delivered, record), entry) in delivered.iter().zip(records).zip(ledger) {
        let is_dead_letter = entry.outcome == Outcome::DeadLettered;
        // What became of a letter that was sent again is asked for, too.
        let is_of_interest = is_dead_letter || delivered.attempt() > 0;
        if let Some(context) = delivered.trace()
            && (context.is_sampled || is_of_interest)
        {
            trace.record(RecordNote {
                name: "event-processing",
                trace: context,
                attributes: attributes(record, entry),
                stored: stored.filter(|_| entry.outcome.is_stored()),
                error: is_dead_letter.then(|| entry.reason.clone().into()),
            });
        }
    }
}

/// Writes a line for each dead letter of the batch that is new, up to [`MAX_LINES`], and counts the others in one more. Lines
/// have the tag of the reason, not its detail, which a client can make as long as it likes.
pub fn log_dead_letters(request_id: &str, records: &[Tracked<'_, Decided>], ledger: &[LedgerEntry], now: Timestamp) {
    let new = |(_, entry): &(_, &LedgerEntry)| entry.outcome == Outcome::DeadLettered && entry.recorded_at == now;
    let mut letters = records.iter().zip(ledger).filter(new);
    for (record, entry) in letters.by_ref().take(MAX_LINES) {
        tracing::warn!(
            request_id,
            trace_id = entry.trace_id.map(display),
            event_id = entry.key.as_ref().map(|key| display(&key.id)),
            event_type = record.event_type(),
            record = %entry.position,
            reason = tag_text(&entry.reason),
            "record became a dead letter"
        );
    }
    let more = letters.count();
    if more > 0 {
        tracing::warn!(request_id, more, "more records of this batch became dead letters");
    }
}

fn attributes(record: &Tracked<'_, Decided>, entry: &LedgerEntry) -> Vec<Attribute> {
    let mut attributes = Attribute::of_position(&entry.position).to_vec();
    attributes.push(Attribute::text("event.outcome", entry.outcome.as_str()));
    if let Some(key) = &entry.key {
        attributes.push(Attribute::text("event.id", key.id.to_string()));
        attributes.push(Attribute::text("event.tenant", key.tenant.to_string()));
    }
    attributes.extend(record.event_type().map(|event_type| Attribute::text("event.type", event_type.to_owned())));
    attributes.extend(record.event().and_then(|event| traces::user(event.user_id.as_deref()?)));
    attributes.extend(entry.risk.as_ref().map(|risk| Attribute::number("event.risk_score", risk.score.into())));
    if !entry.reason.is_empty() {
        attributes.push(Attribute::text("event.reason", entry.reason.clone()));
    }
    attributes
}
