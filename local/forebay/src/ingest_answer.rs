//! What an answer of ingest means for the events that were sent.

use http::StatusCode;
use serde::Deserialize;

/// What to do with the events of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The fate of the first events, one after another. Those behind them are to be sent again.
    Each(Vec<EventFate>),
    /// The batch is refused as a whole, and a smaller one may not be; a batch of one event is refused for good.
    TooMuch { reason: String, because_of_size: bool },
    /// Nothing is known of any event: send all again later.
    Later,
    /// The API key is refused.
    KeyRefused(String),
    /// ingest does not answer so.
    Strange(String),
}

#[derive(Debug, PartialEq, Eq)]
pub enum EventFate {
    Accepted,
    Refused(String),
    /// Nobody knows whether it is in Kafka.
    Unknown,
}

#[derive(Deserialize)]
struct Body {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    status: String,
    problem: Option<Problem>,
}

#[derive(Default, Deserialize)]
struct Problem {
    /// `urn:forebay:problem:<tag>`.
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    fn text(&self) -> String {
        let tag = self.kind.rsplit(':').next().unwrap_or_default();
        if self.detail.is_empty() { tag.to_owned() } else { format!("{tag}: {}", self.detail) }
    }
}

/// What an answer of an HTTP function says is wrong.
pub fn problem_text(status: StatusCode, body: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let text = problem.text();
    if text.is_empty() { status.to_string() } else { text }
}

/// What the answer to a batch of `sent` events means.
pub fn verdict(status: StatusCode, body: &[u8], sent: usize) -> Verdict {
    let items = serde_json::from_slice::<Body>(body).map(|body| body.items).unwrap_or_default();
    if !items.is_empty() && items.len() <= sent {
        return Verdict::Each(items.into_iter().map(fate).collect());
    }
    let reason = problem_text(status, body);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Verdict::KeyRefused(reason),
        StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooMuch { reason, because_of_size: true },
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY => {
            Verdict::TooMuch { reason, because_of_size: false }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Verdict::Later,
        status if status.is_server_error() => Verdict::Later,
        _ => Verdict::Strange(reason),
    }
}

fn fate(item: Item) -> EventFate {
    match item.status.as_str() {
        "accepted" => EventFate::Accepted,
        "rejected" => EventFate::Refused(item.problem.unwrap_or_default().text()),
        _ => EventFate::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str, sent: usize) -> Verdict {
        verdict(StatusCode::from_u16(status).unwrap(), body.as_bytes(), sent)
    }

    #[test]
    fn each_event_has_the_fate_that_its_item_names() {
        let body = r#"{"accepted":1,"items":[{"index":0,"status":"accepted"},
            {"index":1,"status":"rejected","problem":{"type":"urn:forebay:problem:schema_violation","detail":"/amount"}},
            {"index":2,"status":"unknown"}]}"#;
        let each = || {
            Verdict::Each(vec![
                EventFate::Accepted,
                EventFate::Refused("schema_violation: /amount".into()),
                EventFate::Unknown,
            ])
        };
        assert_eq!(of(207, body, 3), each());
        assert_eq!(of(503, body, 5), each(), "two items are omitted");
        assert!(matches!(of(202, body, 2), Verdict::Strange(_)), "more items than events");
    }

    #[test]
    fn an_answer_without_items_is_about_the_whole_batch() {
        let problem = r#"{"type":"urn:forebay:problem:batch_beyond_rate_limit","detail":"at once"}"#;
        let reason = "batch_beyond_rate_limit: at once".to_owned();
        assert_eq!(of(413, problem, 9), Verdict::TooMuch { reason: reason.clone(), because_of_size: true });
        assert_eq!(of(400, problem, 9), Verdict::TooMuch { reason: reason.clone(), because_of_size: false });
        assert_eq!(of(403, problem, 9), Verdict::KeyRefused(reason));
        assert_eq!(of(401, "<html>", 9), Verdict::KeyRefused("401 Unauthorized".to_owned()));
        for busy in [408, 429, 500, 502, 503, 504] {
            assert_eq!(of(busy, "", 9), Verdict::Later, "{busy}");
        }
        assert_eq!(of(404, "", 9), Verdict::Strange("404 Not Found".to_owned()));
        assert!(matches!(of(200, "hello", 9), Verdict::Strange(_)));
        assert_eq!(of(503, r#"{"items":[]}"#, 9), Verdict::Later);
    }
}
