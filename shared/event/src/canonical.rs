//! The canonical form of JSON (RFC 8785), and the fingerprint made of it.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize as _;
use serde_json::Number;
use sha2::{Digest as _, Sha256};

use crate::json::Value;
use crate::{EventId, IdError};

/// Largest integer that a double distinguishes from its neighbours: 2^53 - 1 (RFC 7493, section 2.2).
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// The message to a client about [`CanonicalError::InexactNumber`].
pub(crate) const INEXACT: &str =
    "a number beyond 2^53 cannot be told from its neighbours; send it as a string, or send an event id";

/// Why a JSON value has no fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// RFC 8785 writes numbers as doubles, so two neighbouring integers of this size look the same. Two events that
    /// differ only in such a number, for example a 64-bit order number, would count as one and the second would be
    /// lost.
    #[error("{INEXACT}")]
    InexactNumber { pointer: String },
    #[error("cannot write the canonical form of the event")]
    Write(#[from] serde_json::Error),
    #[error(transparent)]
    Id(#[from] IdError),
}

/// SHA-256 of the canonical form, in lowercase hex.
///
/// # Errors
/// [`CanonicalError::InexactNumber`] if the value holds a number beyond ±(2^53 - 1).
pub fn fingerprint(value: &Value<'_>) -> Result<EventId, CanonicalError> {
    let mut text = Vec::with_capacity(1024);
    write(value, &mut text, &Path::Root)?;
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let mut hex = [0_u8; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    Ok(EventId::new(&String::from_utf8_lossy(&hex))?)
}

/// The path from the root to a value, on the stack. It is written only for an error, as a JSON pointer (RFC 6901).
enum Path<'p> {
    Root,
    Member(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member(of, name) => write!(f, "{of}/{}", name.replace('~', "~0").replace('/', "~1")),
            Path::Item(of, index) => write!(f, "{of}/{index}"),
        }
    }
}

/// Writes the canonical form.
///
/// `serde_json_canonicalizer` takes five times as long, because it writes every member into its own buffer; a test
/// compares the two. What is difficult is left to libraries: `ryu-js` writes fractional numbers as ECMAScript does
/// (section 3.2.2.3), and `serde_json` escapes in strings exactly what RFC 8785 (section 3.2.2.2) requires.
fn write(value: &Value<'_>, out: &mut Vec<u8>, path: &Path<'_>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out, path)?,
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out, &Path::Item(path, index))?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<&(Cow<'_, str>, Value<'_>)> = members.iter().collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| by_utf16(a, b));
            out.push(b'{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out)?;
                out.push(b':');
                write(value, out, &Path::Member(path, name))?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// Order of UTF-16 code units (RFC 8785, section 3.2.3). It differs from the order of UTF-8 only for characters beyond
/// the basic plane.
fn by_utf16(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    text.serialize(&mut serde_json::Serializer::new(out))
}

fn write_number(number: &Number, out: &mut Vec<u8>, path: &Path<'_>) -> Result<(), CanonicalError> {
    let exact = number.as_f64().filter(|value| value.abs() <= MAX_EXACT);
    let value = exact.ok_or_else(|| CanonicalError::InexactNumber { pointer: path.to_string() })?;
    if number.is_f64() {
        out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    } else {
        // ECMAScript writes an integer of this size as its digits.
        number.serialize(&mut serde_json::Serializer::new(out))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, CanonicalError> {
        let mut out = Vec::new();
        write(&Value::parse(text.as_bytes()).unwrap(), &mut out, &Path::Root)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// Documents without numbers that we refuse.
    const DOCUMENTS: [&str; 8] = [
        // RFC 8785, section 3.2.2 without its 1E30, and section 3.2.3.
        r#"{"numbers":[333333333.33333329,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
        r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
        r#"{"a":-0,"b":-0.0,"c":0.0,"d":1.0,"e":10e2,"f":123456789012.5,"g":1e-7,"h":-5}"#,
        r#"{"ctl":"\u0000\b\t\n\f\r\u001f\u007f","html":"</script>","uni":"\u2028\u2029"}"#,
        r#"{"b":{"d":1,"c":[{"z":1,"y":2},[],{}]},"a":""}"#,
        r#"[9007199254740991,-9007199254740991]"#,
        r#""x""#,
        r#"{"":{"":[]}, " ":1, "aa":1, "a":2, "A":3, "a/b~c":4}"#,
    ];

    #[test]
    fn agrees_with_the_reference_implementation() {
        for document in DOCUMENTS {
            let value: serde_json::Value = serde_json::from_str(document).unwrap();
            let expected = serde_json_canonicalizer::to_string(&value).unwrap();
            assert_eq!(canonical(document).unwrap(), expected, "{document}");
        }
    }

    #[test]
    fn sorts_by_utf16_code_units() {
        // U+1F600 is above U+FB33, but its first code unit 0xD83D is below.
        assert_eq!(canonical(r#"{"\ufb33":1,"\ud83d\ude00":2}"#).unwrap(), "{\"😀\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn order_and_white_space_do_not_change_the_fingerprint() {
        let of = |text: &str| fingerprint(&Value::parse(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(of(r#"{"b":1.0,"a":"A"}"#), of("{ \"a\" : \"\\u0041\", \"b\" : 1 }"));
        assert_ne!(of(r#"{"a":1}"#), of(r#"{"a":"1"}"#));
        // printf '{}' | sha256sum
        assert_eq!(of("{}").as_str(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    #[test]
    fn refuses_numbers_that_would_make_two_events_one() {
        for number in ["9007199254740992", "9007199254740993", "-9007199254740993", "18446744073709551616", "1e300"] {
            let error = canonical(&format!(r#"{{"a/b":[0,{number}]}}"#)).unwrap_err();
            assert!(
                matches!(&error, CanonicalError::InexactNumber { pointer } if pointer == "/a~1b/1"),
                "{number}: {error}"
            );
        }
    }
}
