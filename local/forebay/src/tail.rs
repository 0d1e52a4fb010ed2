//! `forebay events tail`: outcomes as they happen.

use std::time::Duration;

use clap::Args;
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::asking::{QueryParameters, question_url, refusal};
use crate::ending::Ending;
use crate::output;
use crate::place::{ReachedPipeline, key_header};
use crate::table::cell;

/// Pause before the next connection, unless the stream names one.
const PAUSE: Duration = Duration::from_secs(1);
/// A stream that says nothing for so long is dead: a living one speaks every 15 seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct TailArguments {
    /// Only these outcomes, with commas between them: valid, fraud, duplicate, blocked, dead_lettered.
    #[arg(long, value_name = "OUTCOMES")]
    outcome: Option<String>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Where to begin: latest, earliest, or a time such as 2026-11-20T18:00:00Z; latest.
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    /// End after so many outcomes; without it the command goes on until it is interrupted.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
}

/// Goes on with the last id when a connection ends, until the limit is reached.
///
/// # Errors
/// If query refuses, or does not answer the first request.
pub async fn tail(arguments: &TailArguments, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let TailArguments { outcome, event_type, user, from, limit } = arguments;
    let mut parameters = QueryParameters::default();
    parameters.add_some("outcome", outcome.as_ref());
    parameters.add_some("type", event_type.as_ref());
    parameters.add_some("user_id", user.as_ref());
    parameters.add_some("from", from.as_ref());
    let url = question_url(at, "/stream", &parameters)?;
    let key = at.key()?;
    let mut events = EventReader::default();
    let (mut shown, mut has_begun) = (0, false);
    while limit.is_none_or(|limit| shown < limit) {
        let mut headers = key_header(&key).to_vec();
        // What was read of an event that was cut comes again.
        events.begin();
        if let Some(id) = &events.last_id {
            headers.push(("last-event-id", id.as_str()));
        }
        let answer = match at.client.open(&url, &headers).await {
            Ok(answer) => answer,
            Err(error) if !has_begun => return Err(error),
            Err(error) => {
                output::complain(format_args!("{error:#}; connecting again"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (parts, mut body) = answer.into_parts();
        if parts.status != StatusCode::OK {
            let problem = refusal(parts.status, &body.collect().await?.to_bytes());
            let passes = parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS;
            if !has_begun || !passes {
                return Err(problem);
            }
            output::complain(format_args!("{problem:#}; connecting again"));
            let wait = parts.headers.get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            tokio::time::sleep(wait.map_or(PAUSE, Duration::from_secs)).await;
            continue;
        }
        has_begun = true;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(LONGEST_SILENCE, body.frame()).await {
            let Ok(bytes) = frame.into_data() else { continue };
            for event in events.read(&bytes) {
                show(&event, answers)?;
                shown += u64::from(event.name != "gap");
                if limit.is_some_and(|limit| shown >= limit) {
                    return Ok(Ending::Done);
                }
            }
        }
        tokio::time::sleep(events.retry.unwrap_or(PAUSE)).await;
    }
    Ok(Ending::Done)
}

fn show(event: &ServerSentEvent, answers: &Answers) -> anyhow::Result<()> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    if event.name == "gap" {
        output::complain(format_args!("outcomes cannot be read any more, and are left out: {data}"));
        return answers.show(&json!({"gap": data}), |_| String::new());
    }
    answers.show(&data, |outcome| {
        let column = |name| cell(&outcome[name]);
        let (at, what, of) = (column("recorded_at"), column("outcome"), column("type"));
        let reason = outcome["reason"].as_str().map(|_| column("reason")).unwrap_or_default();
        let line = format!("{at}  {what:<13}  {of:<12}  {:<12}  {}  {reason}", column("user_id"), column("id"));
        format!("{}\n", line.trim_end())
    })
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ServerSentEvent {
    name: String,
    data: String,
}

/// Reads a stream of server-sent events, in whatever pieces it comes.
#[derive(Debug, Default)]
struct EventReader {
    /// The id of the last event that was read whole, also of one without data.
    last_id: Option<String>,
    /// The pause that the stream asks for.
    retry: Option<Duration>,
    /// A line that has not ended.
    line: Vec<u8>,
    next: ServerSentEvent,
    next_id: Option<String>,
}

impl EventReader {
    /// Forgets what was cut.
    fn begin(&mut self) {
        self.line.clear();
        self.next = ServerSentEvent::default();
        self.next_id = None;
    }

    /// The events that end in these bytes.
    fn read(&mut self, bytes: &[u8]) -> Vec<ServerSentEvent> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.read_line(line.trim_end_matches('\r')));
            } else {
                self.line.push(*byte);
            }
        }
        events
    }

    fn read_line(&mut self, line: &str) -> Option<ServerSentEvent> {
        if line.is_empty() {
            self.last_id = self.next_id.take().or(self.last_id.take());
            let event = std::mem::take(&mut self.next);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next_id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.next.name),
            "data" => self.next.data.push_str(value),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis),
            // A comment has no field, and of others nothing is known.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = "retry: 1500\nid: a.1\n\n: keep-alive\nid: a.2\n\nid: a.3\nevent: valid\ndata: {\"id\":\"ä\"}\n\nid: a.4\nevent: fraud\ndata: {\"i";
        for size in 1..text.len() {
            let mut reader = EventReader::default();
            let events: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| reader.read(piece)).collect();
            assert_eq!(events, [ServerSentEvent { name: "valid".into(), data: "{\"id\":\"ä\"}".into() }], "{size}");
            assert_eq!((reader.last_id.as_deref(), reader.retry), (Some("a.3"), Some(Duration::from_millis(1500))));
            // The cut event comes again, from its beginning.
            reader.begin();
            let again = reader.read(b"id: a.4\nevent: fraud\ndata: {}\n\n");
            assert_eq!(again, [ServerSentEvent { name: "fraud".into(), data: "{}".into() }]);
            assert_eq!(reader.last_id.as_deref(), Some("a.4"));
        }
    }
}
