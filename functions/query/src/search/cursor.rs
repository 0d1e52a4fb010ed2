//! Where a page ended, as a text that a client sends back.

use base64_simd::URL_SAFE_NO_PAD;
use event::{EventId, Timestamp};
use pipeline::ports::{SearchPage, SearchPlace, SearchRequest};
use serde::{Deserialize, Serialize};

/// A page's last place, and the range of the search: `hours=24` would mean another range on every page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub from: Timestamp,
    pub to: Timestamp,
    received_at: Timestamp,
    id: EventId,
}

impl Cursor {
    pub fn new(from: Timestamp, to: Timestamp, last: &SearchPlace) -> Self {
        Cursor { from, to, received_at: last.received_at, id: last.id.clone() }
    }

    /// That of the page after this one, if there is one.
    pub fn of_next(request: &SearchRequest, page: &SearchPage) -> Option<Self> {
        let last = page.events.last().filter(|_| page.has_more)?;
        Some(Cursor::new(request.from, request.to, &last.place))
    }

    /// The place that the next page comes after.
    pub fn after(&self) -> SearchPlace {
        SearchPlace { received_at: self.received_at, id: self.id.clone() }
    }

    /// Of letters, digits, `-` and `_`, so that no client has to encode it as a parameter.
    pub fn to_text(&self) -> String {
        // Texts can always be written.
        URL_SAFE_NO_PAD.encode_to_string(serde_json::to_vec(self).unwrap_or_default())
    }

    /// `None` if it is no text that [`Cursor::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let cursor: Cursor = serde_json::from_slice(&json).ok()?;
        (cursor.from <= cursor.received_at && cursor.received_at < cursor.to).then_some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(received_at: i64, id: &str) -> Cursor {
        let place = SearchPlace { received_at: Timestamp::from_millis(received_at), id: EventId::new(id).unwrap() };
        Cursor::new(Timestamp::from_millis(10), Timestamp::from_millis(20), &place)
    }

    #[test]
    fn what_was_written_is_read_whatever_the_id() {
        for id in ["a", "/shop|a&b=c+ é?#..", "\"\\", &"😀".repeat(64)] {
            let written = cursor(19, id);
            let text = written.to_text();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(Cursor::parse(&text), Some(written));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let text = cursor(10, "a").to_text();
        let changed = text.replacen('e', "f", 1);
        for other in ["", "a", "%", "e30", &text[1..], &changed, &cursor(9, "a").to_text(), &cursor(20, "a").to_text()]
        {
            assert_eq!(Cursor::parse(other), None, "{other}");
        }
    }
}
