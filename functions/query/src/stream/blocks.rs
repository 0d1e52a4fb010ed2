//! Records as blocks of a stream of server-sent events.

use std::fmt::Write as _;
use std::time::Duration;

use event::EventId;
use pipeline::announcement::Announcement;
use pipeline::ports::{LossCause, LostSpan, TailPlace, TailRead, TopicFollower};
use pipeline::{DependencyError, Record, header};
use serde::Serialize;

use super::answer;
use super::place_text;
use super::question::Wanted;

/// When a client connects again, in milliseconds. It is also how long one waits that gets buffered answers.
const RETRY_MS: u64 = 1000;

/// What a stream is at: a follower of the topic, and how far its records have been passed on.
pub struct Passage {
    follower: Box<dyn TopicFollower>,
    wanted: Wanted,
    place: TailPlace,
}

/// Blocks that are ready to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EventBlocks {
    pub text: String,
    pub events: u64,
    /// Whether something had to be left out, because the text would be larger than it may be.
    pub is_full: bool,
}

impl Passage {
    pub fn new(follower: Box<dyn TopicFollower>, wanted: Wanted) -> Self {
        Passage { place: follower.place().clone(), follower, wanted }
    }

    /// The first block: when to connect again, and where the stream begins.
    pub fn beginning(&self) -> String {
        format!("retry: {RETRY_MS}\n{}", self.place_alone())
    }

    /// A block that no client sees as an event, with which it knows how far the stream has got.
    pub fn place_alone(&self) -> String {
        let mut text = "id: ".to_owned();
        place_text::write(&mut text, &self.place);
        text.push_str("\n\n");
        text
    }

    /// What comes next, of at most `most` bytes as [`escaped_bytes`] counts them. Empty if nothing came within `max_wait`
    /// that is wanted.
    ///
    /// After blocks that are full nothing more can be read.
    ///
    /// # Errors
    /// If the topic cannot be read.
    pub async fn next(&mut self, max_wait: Duration, most: usize) -> Result<EventBlocks, DependencyError> {
        let read = self.follower.read(max_wait).await?;
        let blocks = blocks(&mut self.place, read, &self.wanted, most);
        if !blocks.is_full {
            // Also behind what is no record, such as the marker of a transaction.
            self.place.clone_from(self.follower.place());
        }
        Ok(blocks)
    }
}

/// The blocks of what was read, and moves `place` behind the records that are in them or are not wanted.
fn blocks(place: &mut TailPlace, read: TailRead, wanted: &Wanted, most: usize) -> EventBlocks {
    let mut blocks = EventBlocks::default();
    for lost in read.lost {
        match lost.to {
            Some(to) => _ = place.next.insert(lost.partition, to),
            None => _ = place.next.remove(&lost.partition),
        }
        blocks.push(place, "gap", &Gap::from(lost));
    }
    let mut bytes = escaped_bytes(&blocks.text);
    for record in read.records {
        let (partition, offset) = (record.position.partition, record.position.offset);
        let before = place.next.insert(partition, offset + 1);
        let Some(outcome) = wanted.outcome_of(&record) else { continue };
        let end = blocks.text.len();
        blocks.push_outcome(place, &outcome, true);
        let mut more = escaped_bytes(&blocks.text[end..]);
        if bytes + more > most && end == 0 {
            // Alone it is too large, and would be in the next answer, too.
            blocks.text.clear();
            blocks.push_outcome(place, &outcome, false);
            more = escaped_bytes(&blocks.text);
        } else if bytes + more > most {
            blocks.text.truncate(end);
            place.next.extend(before.map(|before| (partition, before)));
            blocks.is_full = true;
            return blocks;
        }
        bytes += more;
        blocks.events += 1;
    }
    blocks
}

impl EventBlocks {
    fn push(&mut self, place: &TailPlace, name: &str, data: &impl Serialize) {
        // These types can always be written.
        let data = serde_json::to_string(data).unwrap_or_default();
        self.push_line(place, name, &data);
    }

    fn push_outcome(&mut self, place: &TailPlace, (outcome, id): &(Announcement<'_>, EventId), with_data: bool) {
        // As above.
        let line = answer::to_line(outcome, id, with_data).unwrap_or_default();
        self.push_line(place, outcome.outcome.as_str(), &line);
    }

    fn push_line(&mut self, place: &TailPlace, name: &str, data: &str) {
        self.text.push_str("id: ");
        place_text::write(&mut self.text, place);
        // Writing to a text cannot fail.
        let _ = write!(self.text, "\nevent: {name}\ndata: {data}\n\n");
    }
}

/// How many bytes a text takes in a JSON string, which is how a gateway gets it. Of control characters a stream has line breaks,
/// and tabs from between the members of what clients sent.
pub fn escaped_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\t')).count()
}

impl Wanted {
    /// The outcome in a record, if it is wanted. Others are passed over without reading their values, where key and headers
    /// say enough.
    fn outcome_of<'r>(&self, record: &'r Record) -> Option<(Announcement<'r>, EventId)> {
        let key = record.key.as_deref()?.strip_prefix(self.tenant.as_str().as_bytes())?;
        if key.first() != Some(&b'/') {
            return None;
        }
        let outcome = record.headers.get(header::OUTCOME);
        let is_wanted = |name: &[u8]| self.outcomes.iter().any(|wanted| wanted.as_str().as_bytes() == name);
        if !self.outcomes.is_empty() && outcome.is_some_and(|outcome| !is_wanted(outcome)) {
            return None;
        }
        let event_type = record.headers.get(header::EVENT_TYPE);
        if event_type.is_some()
            && self.event_type.is_some()
            && event_type != self.event_type.as_deref().map(str::as_bytes)
        {
            return None;
        }
        let outcome = match Announcement::read(record.value.as_deref().unwrap_or_default()) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(position = %record.position, %error, "an outcome cannot be read, and is left out of a stream");
                return None;
            }
        };
        let id = outcome.event_of(self.tenant.as_str())?.clone();
        let is = |wanted: &Option<String>, found: &Option<std::borrow::Cow<'_, str>>| {
            wanted.is_none() || wanted.as_deref() == found.as_deref()
        };
        let all = (self.outcomes.is_empty() || self.outcomes.contains(&outcome.outcome))
            && is(&self.event_type, &outcome.event_type)
            && is(&self.user_id, &outcome.user_id);
        all.then_some((outcome, id))
    }
}

/// The `data` of an event `gap`.
#[derive(Serialize)]
struct Gap {
    partition: i32,
    from: i64,
    to: Option<i64>,
    cause: &'static str,
}

impl From<LostSpan> for Gap {
    fn from(LostSpan { partition, from, to, cause }: LostSpan) -> Self {
        let cause = match cause {
            LossCause::Expired => "expired",
            LossCause::Remade => "remade",
        };
        Gap { partition, from, to, cause }
    }
}

#[cfg(test)]
mod tests {
    use event::{TenantId, Timestamp};
    use pipeline::topic::PROCESSED_EVENTS;
    use pipeline::{Position, RecordHeaders};

    use super::*;

    fn record(offset: i64) -> Record {
        let value = format!(
            r#"{{"outcome_id":"raw-events/0/{offset}","outcome":"valid","reason":"","tenant":"acme","id":"e{offset}","recorded_at":"2026-11-20T18:02:00.000Z"}}"#
        );
        Record {
            position: Position::new(PROCESSED_EVENTS, 0, offset),
            timestamp: Timestamp::EPOCH,
            key: Some(format!("acme/e{offset}").into()),
            value: Some(value.into()),
            headers: RecordHeaders::default(),
            undecodable: None,
        }
    }

    #[test]
    fn a_place_stands_before_what_does_not_fit() {
        let tenant = TenantId::new("acme").unwrap();
        let wanted = Wanted { tenant, outcomes: Vec::new(), event_type: None, user_id: None };
        let read = || TailRead { lost: Vec::new(), records: (5..9).map(record).collect() };
        let passed_on = |most| {
            let mut place = TailPlace { topic_id: [1; 16], next: [(0, 5)].into() };
            let blocks = blocks(&mut place, read(), &wanted, most);
            (blocks.events, blocks.is_full, place.next[&0])
        };
        assert_eq!(passed_on(usize::MAX), (4, false, 9));
        let mut place = TailPlace { topic_id: [1; 16], next: [(0, 5)].into() };
        let all = escaped_bytes(&blocks(&mut place, read(), &wanted, usize::MAX).text);
        assert_eq!(passed_on(all), (4, false, 9));
        assert_eq!(passed_on(all - 1), (3, true, 8));
        assert_eq!(passed_on(1), (1, true, 6), "one is passed on, however large it is");
    }
}
