//! Headers that may occur once.

use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue};

use crate::IngestError;

/// Headers of which a request has at most one value, besides those with the API key and the attributes of CloudEvents.
/// A second value that differs would be read by one server and not by another.
const SINGLE: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::USER_AGENT, HeaderName::from_static("idempotency-key")];

/// # Errors
/// [`IngestError::HeaderConflict`] if a header that may occur once has different values.
pub fn check(headers: &HeaderMap) -> Result<(), IngestError> {
    let differs = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter().map(trimmed);
        values.next().is_some_and(|first| values.any(|other| other != first))
    };
    SINGLE.iter().find(|name| differs(name)).map_or(Ok(()), |name| Err(IngestError::HeaderConflict(name.clone())))
}

/// A header's value without space and tab around it, which are not part of it (RFC 9110, section 5.5). It cannot hold
/// other white space of ASCII.
pub fn trimmed(value: &HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_may_occur_once_has_one_value() {
        for name in SINGLE {
            let with = |values: &[&'static str]| {
                let mut headers = HeaderMap::new();
                for value in values {
                    headers.append(name.clone(), HeaderValue::from_static(value));
                }
                check(&headers)
            };
            assert!(with(&[]).is_ok() && with(&["a"]).is_ok());
            assert!(with(&["a", " a\t"]).is_ok(), "space and tab are not part of a value");
            assert!(matches!(with(&["a", "b"]), Err(IngestError::HeaderConflict(found)) if found == name));
            assert!(with(&["a", "a", "A"]).is_err());
            assert!(with(&["a", ""]).is_err());
        }
        let mut others = HeaderMap::new();
        others.append("accept", HeaderValue::from_static("a"));
        others.append("accept", HeaderValue::from_static("b"));
        assert!(check(&others).is_ok());
    }
}
