//! The path and the query string of a request, as a URI may have them.
//!
//! Some gateways decode a part of the path before they pass it on, so it may have characters that a URI must not have.

use std::fmt::Write as _;

/// Characters of a path besides letters and digits (RFC 3986, section 3.3).
const IN_PATH: &[u8] = b"-._~!$&'()*+,;=:@/";
/// The same for a query string (section 3.4).
const IN_QUERY: &[u8] = b"-._~!$&'()*+,;=:@/?";
/// Characters that mean nothing in a query string (section 2.3).
const UNRESERVED: &[u8] = b"-._~";

/// `path` with everything encoded that no path has; what is already encoded stays. It begins with a slash.
pub(super) fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    append_encoded(&mut encoded, path, IN_PATH);
    encoded
}

/// Appends a query string as the client sent it.
pub(super) fn append_raw_query(uri: &mut String, query: &str) {
    if !query.is_empty() {
        uri.push('?');
        append_encoded(uri, query, IN_QUERY);
    }
}

/// Appends one parameter of the query string. `is_encoded` says that name and value are as the client sent them.
pub(super) fn append_parameter(uri: &mut String, name: &str, value: &str, is_encoded: bool) {
    uri.push(if uri.contains('?') { '&' } else { '?' });
    for (index, text) in [name, value].into_iter().enumerate() {
        if index == 1 {
            uri.push('=');
        }
        if is_encoded {
            append_encoded(uri, text, IN_QUERY);
        } else {
            text.bytes().for_each(|byte| append(uri, byte, UNRESERVED));
        }
    }
}

/// Appends `text`; what is already encoded stays.
fn append_encoded(out: &mut String, text: &str, allowed: &[u8]) {
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let is_escape = *byte == b'%'
            && bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if is_escape { out.push('%') } else { append(out, *byte, allowed) }
    }
}

fn append(out: &mut String, byte: u8, allowed: &[u8]) {
    if byte.is_ascii_alphanumeric() || allowed.contains(&byte) {
        out.push(char::from(byte));
    } else {
        // Writing into a string cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_only_what_a_uri_may_have() {
        for (path, expected) in [
            ("/events", "/events"),
            ("", "/"),
            ("events", "/events"),
            ("/events/order%2F1%20%C3%A9", "/events/order%2F1%20%C3%A9"),
            ("/events/order/1 é", "/events/order/1%20%C3%A9"),
            ("/events/100%", "/events/100%25"),
            ("/events/a?b#c", "/events/a%3Fb%23c"),
            ("/events/%zz%4", "/events/%25zz%254"),
            ("/events/\0\u{7f}\"<>", "/events/%00%7F%22%3C%3E"),
        ] {
            assert_eq!(encoded(path), expected);
        }
    }

    #[test]
    fn a_query_string_is_kept_or_encoded() {
        let mut raw = "/".to_owned();
        append_raw_query(&mut raw, "a=1%202&b=ä#?");
        assert_eq!(raw, "/?a=1%202&b=%C3%A4%23?");
        let mut decoded = "/".to_owned();
        append_parameter(&mut decoded, "a b", "1&2=3+%20", false);
        append_parameter(&mut decoded, "c", "", false);
        assert_eq!(decoded, "/?a%20b=1%262%3D3%2B%2520&c=");
        let mut encoded = "/".to_owned();
        append_parameter(&mut encoded, "a", "1%202+3", true);
        assert_eq!(encoded, "/?a=1%202+3");
        let mut none = "/".to_owned();
        append_raw_query(&mut none, "");
        assert_eq!(none, "/");
    }
}
