//! The requests of the function.

use std::num::{NonZeroU32, NonZeroU64};

use event::{AddressKey, TenantId};
use lambda::request::{self, RequestError, Text};
use pipeline::ports::KeyHash;
use serde::Deserialize;
use serde_json::value::RawValue;
use strum::{IntoStaticStr, VariantNames};

/// A reason or a name. Both are shown in lists.
pub type ShortText = Text<200>;

/// A valid request. The name of each variant in kebab case is its action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, VariantNames, IntoStaticStr)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[strum(serialize_all = "kebab-case")]
pub enum Request {
    Maintain {},
    Block {
        address: AddressKey,
        reason: ShortText,
        /// If absent, the block has no end.
        for_sec: Option<NonZeroU64>,
    },
    Unblock {
        address: AddressKey,
    },
    ListBlocks {},
    CreateKey {
        tenant: TenantId,
        name: ShortText,
        #[serde(default)]
        trusted_collector: bool,
        /// At least 1: a key that should allow no events is revoked instead.
        rate_limit_per_min: Option<NonZeroU32>,
    },
    RevokeKey(RevokedKey),
    Reconcile {},
}

impl Request {
    /// The name of the action in requests.
    pub fn action(&self) -> &'static str {
        self.into()
    }

    /// Parses `{"action":…}` and the operator's name in `by`. An event of a schedule asks to maintain.
    ///
    /// # Errors
    /// If a field is missing, unknown, malformed or out of its range.
    pub fn parse(event: &RawValue) -> Result<(Self, Option<Text>), RequestError> {
        request::parse_or_scheduled(event, Request::Maintain {})
    }
}

/// The API key to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "KeyOrHash")]
pub struct RevokedKey {
    pub hash: KeyHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOrHash {
    key: Option<String>,
    key_hash: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum KeyOrHashError {
    #[error("give exactly one of \"key\" and \"key_hash\"")]
    NotOne,
    #[error("\"key_hash\" is not 64 hexadecimal digits")]
    Malformed,
}

impl TryFrom<KeyOrHash> for RevokedKey {
    type Error = KeyOrHashError;

    fn try_from(fields: KeyOrHash) -> Result<Self, KeyOrHashError> {
        let hash = match (fields.key, fields.key_hash) {
            (Some(key), None) => KeyHash::of(key.as_bytes()),
            (None, Some(hash)) => parse_hash(&hash).ok_or(KeyOrHashError::Malformed)?,
            (Some(_), Some(_)) | (None, None) => return Err(KeyOrHashError::NotOne),
        };
        Ok(RevokedKey { hash })
    }
}

fn parse_hash(text: &str) -> Option<KeyHash> {
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(KeyHash(hash))
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn short(text: &str) -> ShortText {
        ShortText::try_from(text.to_owned()).unwrap()
    }

    fn parse(text: &str) -> Result<Request, String> {
        let parsed = Request::parse(&RawValue::from_string(text.to_owned()).unwrap());
        parsed.map(|(request, _)| request).map_err(|error| chain(&error))
    }

    #[test]
    fn samples_are_read() {
        assert_eq!(parse(&sample("maintainer", "maintain")), Ok(Request::Maintain {}));
        assert_eq!(parse(&sample("maintainer", "schedule")), Ok(Request::Maintain {}));
        assert_eq!(parse(&sample("maintainer", "list-blocks")), Ok(Request::ListBlocks {}));
        assert_eq!(parse(&sample("maintainer", "reconcile")), Ok(Request::Reconcile {}));
        let address = "203.0.113.7".parse().unwrap();
        let for_sec = NonZeroU64::new(3600);
        assert_eq!(
            parse(&sample("maintainer", "block")),
            Ok(Request::Block { address, reason: short("scraping"), for_sec })
        );
        assert_eq!(parse(&sample("maintainer", "unblock")), Ok(Request::Unblock { address }));
        let tenant = TenantId::new("acme").unwrap();
        let expected = Request::CreateKey {
            tenant,
            name: short("collector-eu-1"),
            trusted_collector: true,
            rate_limit_per_min: NonZeroU32::new(6000),
        };
        assert_eq!(parse(&sample("maintainer", "create-key")), Ok(expected));
    }

    #[test]
    fn a_refusal_names_field_and_choices() {
        let cases = [
            (
                sample("maintainer", "unknown-action"),
                "field \"action\": \"vacuum\" is unknown, expected one of maintain, block",
            ),
            ("{}".into(), "field \"action\": missing, expected one of maintain, block, unblock"),
            ("7".into(), "the request is not a JSON object"),
            (r#"{"action":"block","reason":"x"}"#.into(), "missing field `address`"),
            (r#"{"action":"block","address":"host","reason":"x"}"#.into(), "field \"address\": invalid IP"),
            (r#"{"action":"block","address":"::1","reason":""}"#.into(), "field \"reason\": not 1 to 200"),
            (
                r#"{"action":"block","address":"::1","reason":"x","for_sec":0}"#.into(),
                "field \"for_sec\": invalid value: integer `0`, expected a nonzero",
            ),
            (
                r#"{"action":"block","address":"::1","reason":"x","for":9}"#.into(),
                "unknown field `for`, expected one of",
            ),
            (r#"{"action":"create-key","tenant":"A/B","name":"x"}"#.into(), "field \"tenant\": a tenant has"),
            (r#"{"action":"revoke-key"}"#.into(), "one of \"key\" and \"key_hash\""),
            (r#"{"action":"revoke-key","key_hash":"zz"}"#.into(), "\"key_hash\" is not 64 hexadecimal digits"),
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
            Ok(Request::RevokeKey(RevokedKey { hash }))
        );
        assert_eq!(parse(r#"{"action":"revoke-key","key":"fb_x"}"#), Ok(Request::RevokeKey(RevokedKey { hash })));
    }
}
