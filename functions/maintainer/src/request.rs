//! What the function can be asked.

use std::str::FromStr;
use std::time::Duration;

use event::{AddressKey, TenantId};
use lambda::schedule::Trigger;
use pipeline::ports::KeyHash;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::MaintainerError;

/// The actions, as requests spell them.
pub const ACTIONS: [&str; 7] = ["maintain", "block", "unblock", "list-blocks", "create-key", "revoke-key", "reconcile"];

/// Longest reason or name, in characters: both are shown in lists.
const MAX_LABEL_CHARS: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Maintain,
    Block { address: AddressKey, reason: String, period: Option<Duration> },
    Unblock { address: AddressKey },
    ListBlocks,
    CreateKey { tenant: TenantId, name: String, trusted_collector: bool, rate_limit_per_min: Option<u32> },
    RevokeKey { hash: KeyHash },
    Reconcile,
}

/// Texts are checked one by one afterwards, so that an error can name its field.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
enum Fields {
    Maintain {},
    Block {
        address: String,
        reason: String,
        for_sec: Option<u64>,
    },
    Unblock {
        address: String,
    },
    ListBlocks {},
    CreateKey {
        tenant: String,
        name: String,
        #[serde(default)]
        trusted_collector: bool,
        rate_limit_per_min: Option<u32>,
    },
    RevokeKey {
        key: Option<String>,
        key_hash: Option<String>,
    },
    Reconcile {},
}

impl Request {
    /// Reads `{"action":…}`; an event of a schedule asks to maintain.
    ///
    /// # Errors
    /// If it is no request, naming the field and what it may be.
    pub fn parse(event: &RawValue) -> Result<Self, MaintainerError> {
        match Trigger::of(event).map_err(MaintainerError::Request)? {
            Trigger::Schedule => return Ok(Request::Maintain),
            Trigger::Unknown => return Err(MaintainerError::NoAction { choices: ACTIONS.join(", ") }),
            Trigger::Request => {}
        }
        Ok(match serde_json::from_str(event.get()).map_err(MaintainerError::Request)? {
            Fields::Maintain {} => Request::Maintain,
            Fields::ListBlocks {} => Request::ListBlocks,
            Fields::Reconcile {} => Request::Reconcile,
            Fields::Block { address, reason, for_sec } => Request::Block {
                address: parsed("address", &address)?,
                reason: label("reason", reason)?,
                period: match for_sec {
                    Some(0) => return Err(bad("for_sec", "0; leave it out to block until further notice")),
                    Some(seconds) => Some(Duration::from_secs(seconds)),
                    None => None,
                },
            },
            Fields::Unblock { address } => Request::Unblock { address: parsed("address", &address)? },
            Fields::CreateKey { tenant, name, trusted_collector, rate_limit_per_min } => Request::CreateKey {
                tenant: TenantId::new(&tenant).map_err(|error| bad("tenant", format!("{tenant:?}: {error}")))?,
                name: label("name", name)?,
                trusted_collector,
                rate_limit_per_min: match rate_limit_per_min {
                    Some(0) => return Err(bad("rate_limit_per_min", "0; revoke the key instead")),
                    limit => limit,
                },
            },
            Fields::RevokeKey { key: Some(key), key_hash: None } => {
                Request::RevokeKey { hash: KeyHash::of(key.as_bytes()) }
            }
            Fields::RevokeKey { key: None, key_hash: Some(hash) } => Request::RevokeKey { hash: parsed_hash(&hash)? },
            Fields::RevokeKey { key: Some(_), key_hash: Some(_) } => {
                return Err(bad("key", "given together with \"key_hash\"; one of them will do"));
            }
            Fields::RevokeKey { key: None, key_hash: None } => {
                return Err(bad("key", "missing, and so is \"key_hash\"; one of them is needed"));
            }
        })
    }
}

fn bad(field: &'static str, problem: impl Into<String>) -> MaintainerError {
    MaintainerError::Field { field, problem: problem.into() }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<T, MaintainerError> {
    text.parse().map_err(|error| bad(field, format!("{text:?}: {error}")))
}

fn label(field: &'static str, text: String) -> Result<String, MaintainerError> {
    if text.is_empty() || text.chars().count() > MAX_LABEL_CHARS || text.chars().any(char::is_control) {
        return Err(bad(field, format!("not 1 to {MAX_LABEL_CHARS} characters without control characters")));
    }
    Ok(text)
}

fn parsed_hash(text: &str) -> Result<KeyHash, MaintainerError> {
    let malformed = || bad("key_hash", "not 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(malformed());
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        let digits = text.get(index * 2..index * 2 + 2).ok_or_else(malformed)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
    }
    Ok(KeyHash(hash))
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(&RawValue::from_string(text.to_owned()).unwrap()).map_err(|error| chain(&error))
    }

    #[test]
    fn samples_are_read() {
        assert_eq!(parse(&sample("maintainer", "maintain")), Ok(Request::Maintain));
        assert_eq!(parse(&sample("maintainer", "schedule")), Ok(Request::Maintain));
        assert_eq!(parse(&sample("maintainer", "list-blocks")), Ok(Request::ListBlocks));
        assert_eq!(parse(&sample("maintainer", "reconcile")), Ok(Request::Reconcile));
        let address = "203.0.113.7".parse().unwrap();
        let period = Some(Duration::from_secs(3600));
        assert_eq!(
            parse(&sample("maintainer", "block")),
            Ok(Request::Block { address, reason: "scraping".into(), period })
        );
        assert_eq!(parse(&sample("maintainer", "unblock")), Ok(Request::Unblock { address }));
        let tenant = TenantId::new("acme").unwrap();
        let expected = Request::CreateKey {
            tenant,
            name: "collector-eu-1".into(),
            trusted_collector: true,
            rate_limit_per_min: Some(6000),
        };
        assert_eq!(parse(&sample("maintainer", "create-key")), Ok(expected));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let cases = [
            (sample("maintainer", "unknown-action"), "unknown variant `vacuum`, expected one of `maintain`, `block`"),
            ("{}".into(), "the request has no \"action\": one of maintain, block, unblock"),
            ("7".into(), "the request cannot be read"),
            (r#"{"action":"block","reason":"x"}"#.into(), "missing field `address`"),
            (r#"{"action":"block","address":"host","reason":"x"}"#.into(), "field \"address\" is \"host\": invalid IP"),
            (r#"{"action":"block","address":"::1","reason":""}"#.into(), "field \"reason\" is not 1 to 200"),
            (r#"{"action":"block","address":"::1","reason":"x","for_sec":0}"#.into(), "field \"for_sec\" is 0"),
            (
                r#"{"action":"block","address":"::1","reason":"x","for":9}"#.into(),
                "unknown field `for`, expected one of",
            ),
            (
                r#"{"action":"create-key","tenant":"A/B","name":"x"}"#.into(),
                "field \"tenant\" is \"A/B\": a tenant has",
            ),
            (r#"{"action":"revoke-key"}"#.into(), "field \"key\" is missing"),
            (r#"{"action":"revoke-key","key_hash":"zz"}"#.into(), "field \"key_hash\" is not 64 hexadecimal digits"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }

    #[test]
    fn a_hash_is_read_as_it_is_shown() {
        let hash = KeyHash::of(b"fb_x");
        assert_eq!(
            parse(&format!(r#"{{"action":"revoke-key","key_hash":"{hash}"}}"#)),
            Ok(Request::RevokeKey { hash })
        );
        assert_eq!(parse(r#"{"action":"revoke-key","key":"fb_x"}"#), Ok(Request::RevokeKey { hash }));
    }
}
