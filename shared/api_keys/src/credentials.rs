//! The API key of a request: where it may stand, and that there is only one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};
use pipeline::ports::KeyHash;

use crate::error::KeyError;

/// Longest key that is accepted, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// The parameter of the query string in which a publishable key may stand.
pub const QUERY_PARAMETER: &str = "api_key";

/// The hash of the key that came with a request. The key itself is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) hash: KeyHash,
    /// Whether it stood in the URL, where proxies and browsers keep it.
    pub(crate) in_url: bool,
}

impl Credentials {
    /// A key that was shown before, and of which only the hash was kept.
    pub fn of_hash(hash: KeyHash) -> Self {
        Credentials { hash, in_url: false }
    }

    /// The key in `Authorization: Bearer` or `X-Api-Key`.
    ///
    /// # Errors
    /// If there is none, or two that differ, or it cannot be one of ours.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, KeyError> {
        Self::of_request(headers, None)
    }

    /// The key in a header, or in the query string's parameter `api_key`: browsers that send a beacon set no headers.
    ///
    /// # Errors
    /// If there is none, or two that differ, or it cannot be one of ours.
    pub fn of_request(headers: &HeaderMap, query: Option<&str>) -> Result<Self, KeyError> {
        let mut keys: Vec<Cow<'_, [u8]>> = Vec::with_capacity(1);
        for value in headers.get_all("x-api-key") {
            keys.push(value.as_bytes().into());
        }
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let first = authorizations.next();
        if authorizations.any(|other| Some(other.trim_ascii()) != first.map(<[u8]>::trim_ascii)) {
            return Err(KeyError::Conflict);
        }
        if let Some(value) = first.map(<[u8]>::trim_ascii_start) {
            let (scheme, token) = value.split_at(value.len().min("Bearer ".len()));
            if scheme.eq_ignore_ascii_case(b"Bearer ") {
                keys.push(token.into());
            }
        }
        let in_headers = keys.len();
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (_, value) in parameters.filter(|(name, _)| name == QUERY_PARAMETER) {
            keys.push(value.into_owned().into_bytes().into());
        }
        let (first, others) = keys.split_first().ok_or(KeyError::Missing)?;
        let key = first.trim_ascii();
        if others.iter().any(|other| other.trim_ascii() != key) {
            return Err(KeyError::Conflict);
        }
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(KeyError::Unreadable);
        }
        Ok(Credentials { hash: KeyHash::of(key), in_url: keys.len() > in_headers })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn reads_a_key_from_either_header() {
        let secret = Ok(Credentials { hash: KeyHash::of(b"secret"), in_url: false });
        let read = |pairs: &[(&'static str, &'static str)]| {
            Credentials::of_headers(&headers(pairs)).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[("authorization", "Bearer secret")]), secret);
        assert_eq!(read(&[("authorization", "bearer  secret ")]), secret);
        assert_eq!(read(&[("x-api-key", "secret")]), secret);
        assert_eq!(read(&[("x-api-key", "secret"), ("authorization", "Bearer secret")]), secret);
        assert_eq!(read(&[("x-api-key", "secret"), ("authorization", "Basic eDp5")]), secret);
        let missing = Err(KeyError::Missing.to_string());
        assert_eq!(read(&[]), missing);
        assert_eq!(read(&[("authorization", "Basic eDp5")]), missing);
        let unreadable = Err(KeyError::Unreadable.to_string());
        let conflict = Err(KeyError::Conflict.to_string());
        assert_eq!(read(&[("x-api-key", "other"), ("authorization", "Bearer secret")]), conflict);
        assert_eq!(read(&[("x-api-key", "secret"), ("x-api-key", "other")]), conflict);
        assert_eq!(read(&[("authorization", "Bearer secret"), ("authorization", "Bearer other")]), conflict);
        assert_eq!(read(&[("authorization", "Basic eDp5"), ("authorization", "Bearer secret")]), conflict);
        assert_eq!(read(&[("authorization", "Bearer secret"), ("authorization", " Bearer secret\t")]), secret);
        assert_eq!(read(&[("x-api-key", "")]), unreadable);
        assert_eq!(read(&[("authorization", "Bearer ")]), unreadable);
    }

    #[test]
    fn reads_a_key_from_the_query_string_and_remembers_that_it_stood_there() {
        let read = |pairs: &[(&'static str, &'static str)], query: &str| {
            Credentials::of_request(&headers(pairs), Some(query)).map_err(|error| error.to_string())
        };
        let in_url = Ok(Credentials { hash: KeyHash::of(b"secret"), in_url: true });
        assert_eq!(read(&[], "api_key=secret"), in_url);
        assert_eq!(read(&[], "a=b&api_key=%73ecret&c"), in_url);
        assert_eq!(read(&[("x-api-key", "secret")], "api_key=secret"), in_url);
        assert_eq!(read(&[("x-api-key", "secret")], "a=b").map(|read| read.in_url), Ok(false));
        assert_eq!(read(&[("x-api-key", "other")], "api_key=secret"), Err(KeyError::Conflict.to_string()));
        assert_eq!(read(&[], "api_key=secret&api_key=other"), Err(KeyError::Conflict.to_string()));
        assert_eq!(read(&[], "api_key="), Err(KeyError::Unreadable.to_string()));
        assert_eq!(read(&[], "API_KEY=secret"), Err(KeyError::Missing.to_string()));
    }
}
