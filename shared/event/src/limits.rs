//! Limits on requests, checked in one pass over the bytes, before memory of that size is allocated.
//!
//! The pass only finds strings and brackets. Whether an item is JSON is checked when it is parsed, so that one bad item
//! does not reject its batch. What is around the items is checked here, as strictly, and refuses the batch as a whole.

use strum::EnumCount;

use crate::JsonStr;
use crate::json::Value;

/// Limits on the events of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of events in a batch.
    pub items: usize,
    /// Bytes of one event.
    pub item_bytes: usize,
    /// Depth of nested objects and arrays; the event itself is level 1. At most 127, the limit of the parser.
    pub depth: usize,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error, EnumCount)]
pub enum LimitError {
    #[error("the batch has more than {limit} events")]
    TooManyItems { limit: usize },
    #[error("the event has more than {limit} bytes")]
    ItemTooLarge { limit: usize },
    #[error("objects and arrays are nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("a member besides \"events\" has more than {limit} bytes")]
    MemberTooLarge { limit: usize },
    #[error("the body is neither a JSON array of events nor an object with an array \"events\"")]
    NotABatch,
    #[error("the object around \"events\" is not valid JSON, or has a member twice")]
    MalformedWrapper,
}

impl LimitError {
    /// One of each kind, for what documents an interface. The length of the array is checked by the compiler.
    pub const fn of_each_kind(limits: &Limits) -> [Self; Self::COUNT] {
        [
            LimitError::TooManyItems { limit: limits.items },
            LimitError::ItemTooLarge { limit: limits.item_bytes },
            LimitError::TooDeep { limit: limits.depth },
            LimitError::MemberTooLarge { limit: limits.item_bytes },
            LimitError::NotABatch,
            LimitError::MalformedWrapper,
        ]
    }

    /// Short name of the cause, from a fixed list.
    pub const fn tag(&self) -> &'static str {
        match self {
            LimitError::TooManyItems { .. } => "too_many_items",
            LimitError::ItemTooLarge { .. } => "item_too_large",
            LimitError::TooDeep { .. } => "too_deep",
            LimitError::MemberTooLarge { .. } => "member_too_large",
            LimitError::NotABatch => "not_a_batch",
            LimitError::MalformedWrapper => "malformed_json",
        }
    }
}

/// The bytes of one event, not yet parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    bytes: &'a [u8],
    depth: usize,
}

impl<'a> Item<'a> {
    /// A body that is one event.
    pub fn single(body: &'a [u8]) -> Self {
        let start = skip_space(body, 0);
        let (_, depth) = value_end(body, start);
        Item { bytes: body, depth }
    }

    /// The number of bytes.
    pub const fn size(self) -> usize {
        self.bytes.len()
    }

    /// The bytes, if they are within the limits of one event.
    ///
    /// # Errors
    /// [`LimitError::ItemTooLarge`] or [`LimitError::TooDeep`].
    pub fn within(self, limits: &Limits) -> Result<&'a [u8], LimitError> {
        if self.bytes.len() > limits.item_bytes {
            Err(LimitError::ItemTooLarge { limit: limits.item_bytes })
        } else if self.depth > limits.depth {
            Err(LimitError::TooDeep { limit: limits.depth })
        } else {
            Ok(self.bytes)
        }
    }
}

/// Whether the first character of the body opens an array. Then it is a batch, whatever its media type is.
pub fn is_array(body: &[u8]) -> bool {
    body.get(skip_space(body, 0)) == Some(&b'[')
}

/// Splits a batch into its events: a JSON array, or the array in the member `events` of an object.
///
/// # Errors
/// [`LimitError::TooManyItems`] at the first event beyond the limit; [`LimitError::NotABatch`] if the body has another
/// shape or a bracket is not closed.
pub fn batch_items<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Item<'a>>, LimitError> {
    let start = skip_space(body, 0);
    if body.get(start) == Some(&b'{') { events_member(body, start, limits) } else { array_items(body, limits) }
}

/// Splits a batch that must be a JSON array into its events.
///
/// # Errors
/// Like [`batch_items`].
pub fn array_items<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Item<'a>>, LimitError> {
    let start = skip_space(body, 0);
    if body.get(start) != Some(&b'[') {
        return Err(LimitError::NotABatch);
    }
    let (items, end) = items_of(body, start, limits)?;
    if skip_space(body, end) == body.len() { Ok(items) } else { Err(LimitError::NotABatch) }
}

/// Splits newline-delimited JSON into its events; empty lines are ignored.
///
/// # Errors
/// [`LimitError::TooManyItems`] at the first event beyond the limit.
pub fn line_items<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Item<'a>>, LimitError> {
    let mut items = Vec::new();
    for line in body.split(|byte| *byte == b'\n').map(without_space).filter(|line| !line.is_empty()) {
        if items.len() == limits.items {
            return Err(LimitError::TooManyItems { limit: limits.items });
        }
        items.push(Item::single(line));
    }
    Ok(items)
}

/// Finds the member `events` of the object at `start` and splits its array. The other members must be JSON, and none
/// may be there twice: another reader might take the other one.
fn events_member<'a>(body: &'a [u8], start: usize, limits: &Limits) -> Result<Vec<Item<'a>>, LimitError> {
    let mut events = None;
    let mut names: Vec<JsonStr<'a>> = Vec::new();
    let mut at = skip_space(body, start + 1);
    if body.get(at) == Some(&b'}') {
        return Err(LimitError::NotABatch);
    }
    loop {
        at = skip_space(body, at);
        let (name_end, _) = value_end(body, at);
        let name: JsonStr<'a> =
            serde_json::from_slice(&body[at..name_end]).map_err(|_| LimitError::MalformedWrapper)?;
        if names.len() == MAX_MEMBERS || names.contains(&name) {
            return Err(LimitError::MalformedWrapper);
        }
        at = skip_space(body, name_end);
        if body.get(at) != Some(&b':') {
            return Err(LimitError::MalformedWrapper);
        }
        at = skip_space(body, at + 1);
        at = if name.0 == "events" {
            if body.get(at) != Some(&b'[') {
                return Err(LimitError::NotABatch);
            }
            let (items, end) = items_of(body, at, limits)?;
            events = Some(items);
            end
        } else {
            other_member(body, at, limits)?
        };
        names.push(name);
        at = skip_space(body, at);
        match body.get(at) {
            Some(b',') => at += 1,
            Some(b'}') if skip_space(body, at + 1) == body.len() => return events.ok_or(LimitError::NotABatch),
            Some(_) | None => return Err(LimitError::MalformedWrapper),
        }
    }
}

/// Members of the object around `events`; each name is compared with the earlier ones.
const MAX_MEMBERS: usize = 64;

/// The end of the value that starts at `at`.
fn other_member(body: &[u8], at: usize, limits: &Limits) -> Result<usize, LimitError> {
    let (end, depth) = value_end(body, at);
    if end - at > limits.item_bytes {
        return Err(LimitError::MemberTooLarge { limit: limits.item_bytes });
    }
    if depth > limits.depth {
        return Err(LimitError::TooDeep { limit: limits.depth });
    }
    Value::parse(&body[at..end]).map(|_| end).map_err(|_| LimitError::MalformedWrapper)
}

/// The items of the array that opens at `start`, and the position of its end.
fn items_of<'a>(body: &'a [u8], start: usize, limits: &Limits) -> Result<(Vec<Item<'a>>, usize), LimitError> {
    let mut items = Vec::new();
    let mut at = skip_space(body, start + 1);
    if body.get(at) == Some(&b']') {
        return Ok((items, at + 1));
    }
    loop {
        let (end, depth) = value_end(body, at);
        if end == at {
            return Err(LimitError::NotABatch);
        }
        if items.len() == limits.items {
            return Err(LimitError::TooManyItems { limit: limits.items });
        }
        items.push(Item { bytes: &body[at..end], depth });
        at = skip_space(body, end);
        match body.get(at) {
            Some(b',') => at = skip_space(body, at + 1),
            Some(b']') => return Ok((items, at + 1)),
            Some(_) | None => return Err(LimitError::NotABatch),
        }
    }
}

/// White space of JSON (RFC 8259, section 2).
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn without_space(line: &[u8]) -> &[u8] {
    let start = skip_space(line, 0);
    let end = line.iter().rposition(|byte| !is_space(*byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    bytes.get(from..).map_or(from, |rest| from + rest.iter().take_while(|byte| is_space(**byte)).count())
}

/// The end of the value that starts at `from`, and its depth. If the value is not closed, the end is the end of the
/// bytes; if there is no value, it is `from`.
fn value_end(bytes: &[u8], from: usize) -> (usize, usize) {
    let (mut at, mut open, mut deepest) = (from, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
                at += 1;
            }
            b'}' | b']' if open == 0 => return (at, deepest),
            b'}' | b']' => {
                open -= 1;
                at += 1;
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' | b':' if open == 0 => return (at, deepest),
            _ => {
                at += 1;
                continue;
            }
        }
        if open == 0 {
            return (at, deepest);
        }
    }
    (bytes.len(), deepest)
}

/// The position after the quote that closes the string opened at `from`, or the end of the bytes.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(step) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))) {
        at += step;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { items: 3, item_bytes: 40, depth: 3 };

    fn texts(body: &str) -> Result<Vec<&str>, LimitError> {
        let items = batch_items(body.as_bytes(), &LIMITS)?;
        Ok(items.into_iter().map(|item| std::str::from_utf8(item.bytes).unwrap()).collect())
    }

    #[test]
    fn cuts_arrays_and_events_members() {
        assert_eq!(
            texts(r#" [ {"a":"]"} , {"b":[1,{"c":"\"}"}]},3 ] "#).unwrap(),
            [r#"{"a":"]"}"#, r#"{"b":[1,{"c":"\"}"}]}"#, "3"]
        );
        assert_eq!(
            texts(r#"{"source":{"events":[9]},"events":[{"a":1},"x\\"],"n":1}"#).unwrap(),
            [r#"{"a":1}"#, r#""x\\""#]
        );
        assert_eq!(texts("[]").unwrap(), [""; 0]);
        assert_eq!(texts(r#"{"events":[]}"#).unwrap(), [""; 0]);
    }

    #[test]
    fn a_bad_item_keeps_its_place() {
        assert_eq!(texts(r#"[{"a":tru},{"b":1],{"c":1}]"#).unwrap(), [r#"{"a":tru}"#, r#"{"b":1]"#, r#"{"c":1}"#]);
    }

    #[test]
    fn refuses_what_cannot_be_cut() {
        for body in [
            "",
            " ",
            "1",
            "\"[]\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]x",
            "[{]",
            "[\"a]",
            "[{\"a\":\"\\",
            "{}",
            "{\"events\":1}",
            "{\"events\":",
            "{\"other\":[1]}",
        ] {
            assert_eq!(texts(body), Err(LimitError::NotABatch), "{body}");
        }
    }

    #[test]
    fn the_object_around_the_events_is_strict_json() {
        for body in [
            "{",
            "{\"events\"",
            "{\"events\":[1]",
            "{\"events\":[1],}",
            "{\"events\":[1]}{",
            "{\"events\":[1]}x",
            "{events:[1]}",
            "{'events':[1]}",
            "{\"events\":[1],\"events\":[2]}",
            "{\"events\":[1],\"\\u0065vents\":[2]}",
            "{\"a\":1,\"events\":[1],\"a\":1}",
            "{\"a\":1,\"\\u0061\":2,\"events\":[]}",
            "{\"a\":{\"b\":1,\"b\":2},\"events\":[]}",
            "{\"a\":,\"events\":[]}",
            "{\"a\":tru,\"events\":[]}",
            "{\"a\":01,\"events\":[]}",
            "{\"a\":+1,\"events\":[]}",
            "{\"a\":1e400,\"events\":[]}",
            "{\"a\":NaN,\"events\":[]}",
            "{\"a\":[1,],\"events\":[]}",
            "{\"a\":[1},\"events\":[]}",
            "{\"a\":\"\t\",\"events\":[]}",
            "{\"a\":\"\\x\",\"events\":[]}",
            "{\"a\":\"\\ud800\",\"events\":[]}",
            "{\"a\u{1}\":1,\"events\":[]}",
            "{\"a\":1 2,\"events\":[]}",
            "{\"a\":1;\"events\":[]}",
            "{\"a\" 1,\"events\":[]}",
            "{,\"events\":[]}",
        ] {
            assert_eq!(texts(body), Err(LimitError::MalformedWrapper), "{body}");
        }
        assert_eq!(batch_items(b"{\"a\":\"\xff\",\"events\":[]}", &LIMITS), Err(LimitError::MalformedWrapper));
        assert_eq!(texts(r#"{"\u0065vents":[1],"a":{"b":[]},"c":null}"#).unwrap(), ["1"]);
        let large = format!(r#"{{"a":"{}","events":[]}}"#, "x".repeat(40));
        assert_eq!(texts(&large), Err(LimitError::MemberTooLarge { limit: 40 }));
        assert_eq!(texts(r#"{"a":[[[[]]]],"events":[]}"#), Err(LimitError::TooDeep { limit: 3 }));
    }

    #[test]
    fn lines_have_the_white_space_of_json() {
        let lines = line_items(b" {}\t\r\n\x0c{}\n", &LIMITS).unwrap();
        assert_eq!(lines.iter().map(|item| item.bytes).collect::<Vec<_>>(), [&b"{}"[..], b"\x0c{}"]);
    }

    #[test]
    fn counts_items_and_depth_and_size() {
        assert_eq!(texts("[1,2,3,4]"), Err(LimitError::TooManyItems { limit: 3 }));
        assert_eq!(line_items(b"1\n2\n\r\n3\n4", &LIMITS), Err(LimitError::TooManyItems { limit: 3 }));
        assert_eq!(line_items(b"1\r\n\n2", &LIMITS).unwrap().len(), 2);
        let within = |text: &'static str| Item::single(text.as_bytes()).within(&LIMITS);
        assert!(within(r#" {"a":[[1]],"b":[[2]]}"#).is_ok());
        assert_eq!(within(r#"{"a":[[[1]]]}"#), Err(LimitError::TooDeep { limit: 3 }));
        assert!(within(r#"{"a":"[[[[[[[[[[["}"#).is_ok(), "brackets in a string");
        assert_eq!(
            within(r#"{"a":"0123456789012345678901234567890123456789"}"#),
            Err(LimitError::ItemTooLarge { limit: 40 })
        );
    }

    #[test]
    fn a_hundred_thousand_levels_are_measured_without_recursion() {
        let body = "[".repeat(100_000);
        assert_eq!(Item::single(body.as_bytes()).depth, 100_000);
        let closed = format!("[{body}{}]", "]".repeat(100_000));
        let items = batch_items(closed.as_bytes(), &LIMITS).unwrap();
        assert_eq!(
            items[0].within(&Limits { item_bytes: usize::MAX, ..LIMITS }),
            Err(LimitError::TooDeep { limit: 3 })
        );
    }
}
