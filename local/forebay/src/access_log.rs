//! Reads web server logs in the combined (or common) log format of Apache and nginx and turns each line into a
//! `page_view` event.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::LazyLock;

use event::Timestamp;
use regex::bytes::Regex;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

/// host ident user [time] "request" status bytes "referrer" "agent"; quotes inside fields are escaped with a
/// backslash. The last field may lack its closing quote, because servers and log shippers cut long lines.
#[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?-u)^(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+(?: [^\[]*\S)?) \[(?P<time>[^\]]+)\] "#,
        r#""(?P<request>(?:[^"\\]|\\.)*)" (?P<status>[0-9]{3}|-) (?P<bytes>[0-9]+|-)"#,
        r#"(?: "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"?)?(?: .*)?$"#
    ))
    .expect("the pattern is valid")
});

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum LogLineError {
    #[error("not in the combined log format")]
    Format,
    #[error("the time does not have the format 17/May/2015:10:05:03 +0000")]
    Time,
}

/// A log line as an event. Fields whose value in the log is `-` are skipped.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PageView<'a> {
    #[serde(rename = "type")]
    event_type: &'static str,
    timestamp: Timestamp,
    /// `None` if the server logged a host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ident: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

impl<'a> PageView<'a> {
    /// Parses one line, without its line end.
    ///
    /// # Errors
    /// [`LogLineError`] says what is wrong with it.
    pub fn parse(line: &'a [u8]) -> Result<Self, LogLineError> {
        let fields = LINE.captures(line).ok_or(LogLineError::Format)?;
        let text = |name: &str| fields.name(name).map(|found| printable(found.as_bytes())).filter(|text| text != "-");
        let host = text("host").ok_or(LogLineError::Format)?;
        let client_ip = host.parse().ok();
        let (method, path, protocol) = split_request(text("request").unwrap_or_default());
        Ok(PageView {
            event_type: "page_view",
            timestamp: parse_time(&text("time").unwrap_or_default())?,
            client_ip,
            host: if client_ip.is_none() { Some(host) } else { None },
            ident: text("ident"),
            user_id: text("user"),
            method,
            path,
            protocol,
            status: text("status").and_then(|text| text.parse().ok()),
            bytes: text("bytes").and_then(|text| text.parse().ok()),
            referrer: text("referrer"),
            user_agent: text("agent"),
        })
    }
}

/// Splits `GET /path HTTP/1.1`. Anything else (an empty request, a TLS handshake sent to a plain port) becomes the
/// path.
fn split_request(request: Cow<'_, str>) -> (Option<Cow<'_, str>>, Cow<'_, str>, Option<Cow<'_, str>>) {
    let mut words = request.split(' ');
    let (method, path, protocol, more) = (words.next(), words.next(), words.next(), words.next());
    match (method, path, protocol, more) {
        (Some(method), Some(path), Some(protocol), None)
            if !method.is_empty() && !path.is_empty() && protocol.starts_with("HTTP/") =>
        {
            let owned = |text: &str| Cow::Owned(text.to_owned());
            (Some(owned(method)), owned(path), Some(owned(protocol)))
        }
        _ => (None, request, None),
    }
}

fn parse_time(text: &str) -> Result<Timestamp, LogLineError> {
    let format = format_description!(
        "[day]/[month repr:short]/[year]:[hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
    );
    OffsetDateTime::parse(text, format).map(Timestamp::from).map_err(|_| LogLineError::Time)
}

/// Keeps text unchanged and writes bytes that are not UTF-8 as Apache does, `\xff`, so that different lines give
/// different events.
fn printable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len() + 16);
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                for byte in chunk.invalid() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            }
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(line: &str) -> serde_json::Value {
        serde_json::to_value(PageView::parse(line.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn reads_a_combined_line() {
        let line = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0200] "GET /a?b=c HTTP/1.1" 200 203023 "http://e.org/\"x\"" "Mozilla/5.0 (X11)""#;
        assert_eq!(
            json(line),
            serde_json::json!({
                "type": "page_view", "timestamp": "2015-05-17T08:05:03.000Z", "client_ip": "83.149.9.216",
                "method": "GET", "path": "/a?b=c", "protocol": "HTTP/1.1", "status": 200, "bytes": 203023,
                "referrer": "http://e.org/\\\"x\\\"", "user_agent": "Mozilla/5.0 (X11)"
            })
        );
    }

    #[test]
    fn reads_odd_but_usable_lines() {
        let cut = json(r#"::1 - bob [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 - "-" "Mozilla/5.0 (cut"#);
        assert_eq!(cut["user_agent"], "Mozilla/5.0 (cut");
        assert_eq!(cut["user_id"], "bob");
        assert_eq!(cut.get("bytes"), None);
        let common = json(r#"host.example - - [17/May/2015:10:05:03 +0000] "\x16\x03\x01" 400 226"#);
        assert_eq!(common["path"], "\\x16\\x03\\x01");
        assert_eq!(common["host"], "host.example");
        assert_eq!(common.get("client_ip"), None);
    }

    #[test]
    fn names_what_is_wrong_with_a_line() {
        assert_eq!(PageView::parse(b"hello"), Err(LogLineError::Format));
        assert_eq!(PageView::parse(b""), Err(LogLineError::Format));
        let line = br#"::1 - - [yesterday] "GET / HTTP/1.1" 200 1 "-" "-""#;
        assert_eq!(PageView::parse(line), Err(LogLineError::Time));
    }

    #[test]
    fn lines_that_differ_in_bytes_that_are_not_text_stay_different() {
        let line = |byte: u8| {
            [br#"::1 - - [17/May/2015:10:05:03 +0000] "GET /"#, &[byte][..], br#" HTTP/1.1" 200 1"#].concat()
        };
        let (one, two) = (line(0xfe), line(0xff));
        assert_ne!(PageView::parse(&one).unwrap(), PageView::parse(&two).unwrap());
    }
}
