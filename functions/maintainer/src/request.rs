//! The requests of the function.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use event::{AddressRange, EventId, TenantId, Timestamp};
use lambda::request::{self, Limit, RequestError, Text};
use pipeline::ports::{KeyHash, KeyHashError, KeyKind, Scope};
use pipeline::{Outcome, topic};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use strum::{IntoStaticStr, VariantNames};
use webhooks::{EndpointId, WebhookTarget};

/// A reason or a name. Both are shown in lists.
pub type ShortText = Text<200>;

/// Records in one answer.
pub type TailLimit = Limit<100, 10>;

/// A topic of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicName(pub &'static str);

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = topic::ALL.into_iter().find(|known| *known == name).map(TopicName);
        known.ok_or_else(|| D::Error::custom(format_args!("not one of {}", topic::ALL.join(", "))))
    }
}

/// A valid request. The name of each variant in kebab case is its action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, VariantNames, IntoStaticStr)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[strum(serialize_all = "kebab-case")]
pub enum Request {
    Maintain {},
    Block {
        address: AddressRange,
        reason: ShortText,
        /// If absent, the block has no end.
        for_sec: Option<NonZeroU64>,
    },
    Unblock {
        address: AddressRange,
    },
    /// Makes an exception: the address is neither blocked nor counted.
    Allow {
        address: AddressRange,
        reason: ShortText,
        /// If absent, the exception has no end.
        for_sec: Option<NonZeroU64>,
    },
    Disallow {
        address: AddressRange,
    },
    ListBlocks {},
    /// Which entries have an address, and which of them holds.
    FindBlock {
        address: AddressRange,
    },
    /// What counts against the limit of an address, and whether it is blocked.
    ShowLimits {
        address: AddressRange,
    },
    /// What the processor remembers of an event id.
    ShowDedup {
        tenant: TenantId,
        event_id: EventId,
    },
    /// The topics with the offsets of their partitions.
    ListTopics {},
    /// How far each consumer group is.
    Lag {},
    /// The records that were written last to a topic.
    TailTopic {
        topic: TopicName,
        #[serde(default)]
        records: TailLimit,
        /// Whether to show what is in them, too: what clients sent.
        #[serde(default)]
        values: bool,
    },
    CreateKey(NewKey),
    ListKeys {
        /// If absent, the keys of all tenants.
        tenant: Option<TenantId>,
    },
    RotateKey(Rotation),
    RevokeKey(ChosenKey),
    CreateWebhook(NewWebhook),
    ListWebhooks {
        /// If absent, the webhooks of all tenants.
        tenant: Option<TenantId>,
    },
    RotateWebhook {
        webhook: EndpointId,
    },
    PauseWebhook {
        webhook: EndpointId,
        reason: Option<ShortText>,
    },
    ResumeWebhook {
        webhook: EndpointId,
    },
    DeleteWebhook {
        webhook: EndpointId,
    },
    Audit {
        /// Today if absent.
        #[serde(default, deserialize_with = "request::day")]
        day: Option<Timestamp>,
    },
    Reconcile {},
}

impl Request {
    /// The name of the action in requests.
    pub fn action(&self) -> &'static str {
        self.into()
    }

    /// What the audit trail keeps of a request that changes who may send or who is told; `None` for other requests. Never a key.
    pub fn audited(&self) -> Option<Value> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        match self {
            Request::Block { address, reason, for_sec } | Request::Allow { address, reason, for_sec } => {
                Some(json!({ "address": address, "reason": &**reason, "for_sec": for_sec }))
            }
            Request::Unblock { address } | Request::Disallow { address } => Some(json!({ "address": address })),
            Request::CreateKey(new) => Some(json!({
                "tenant": new.tenant, "name": &*new.name, "kind": new.kind, "scopes": new.scopes,
                "rate_limit_per_min": new.rate_limit_per_min, "burst": new.burst,
                "expires_in_sec": seconds(new.expires_in),
            })),
            Request::RotateKey(rotation) => Some(json!({
                "key_hash": rotation.hash.to_string(), "grace_sec": rotation.grace.as_secs(),
                "expires_in_sec": seconds(rotation.expires_in),
            })),
            Request::RevokeKey(ChosenKey { hash }) => Some(json!({ "key_hash": hash.to_string() })),
            Request::CreateWebhook(NewWebhook { tenant, url, outcomes, types }) => {
                Some(json!({ "tenant": tenant, "url": url.shown(), "outcomes": outcomes, "types": types }))
            }
            Request::PauseWebhook { webhook, reason } => {
                Some(json!({ "webhook": webhook, "reason": reason.as_deref() }))
            }
            Request::RotateWebhook { webhook }
            | Request::ResumeWebhook { webhook }
            | Request::DeleteWebhook { webhook } => Some(json!({ "webhook": webhook })),
            Request::Maintain {}
            | Request::ListBlocks {}
            | Request::FindBlock { .. }
            | Request::ShowLimits { .. }
            | Request::ShowDedup { .. }
            | Request::ListTopics {}
            | Request::Lag {}
            | Request::TailTopic { .. }
            | Request::ListKeys { .. }
            | Request::ListWebhooks { .. }
            | Request::Audit { .. }
            | Request::Reconcile {} => None,
        }
    }

    /// Parses `{"action":…}` and the operator's name in `by`. An event of a schedule asks to maintain.
    ///
    /// # Errors
    /// If a field is missing, unknown, malformed or out of its range.
    pub fn parse(event: &RawValue) -> Result<(Self, Option<Text>), RequestError> {
        request::parse_or_scheduled(event, Request::Maintain {})
    }
}

/// The webhook to make.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NewWebhookFields")]
pub struct NewWebhook {
    pub tenant: TenantId,
    pub url: WebhookTarget,
    pub outcomes: BTreeSet<Outcome>,
    /// All types if empty.
    pub types: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWebhookFields {
    tenant: TenantId,
    url: WebhookTarget,
    outcomes: BTreeSet<Outcome>,
    types: Option<Vec<ShortText>>,
}

/// A webhook that would never be told anything.
#[derive(Debug, thiserror::Error)]
#[error("\"outcomes\" is empty: give at least one of {}", Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join(", "))]
struct NoOutcome;

impl TryFrom<NewWebhookFields> for NewWebhook {
    type Error = NoOutcome;

    fn try_from(fields: NewWebhookFields) -> Result<Self, NoOutcome> {
        let NewWebhookFields { tenant, url, outcomes, types } = fields;
        if outcomes.is_empty() {
            return Err(NoOutcome);
        }
        Ok(NewWebhook { tenant, url, outcomes, types: types.into_iter().flatten().map(String::from).collect() })
    }
}

/// How long a rotated key still works, if the request does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(86_400);

/// The key to make.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NewKeyFields")]
pub struct NewKey {
    pub tenant: TenantId,
    pub name: ShortText,
    pub kind: KeyKind,
    pub scopes: BTreeSet<Scope>,
    /// At least 1: a key that should allow no events is revoked instead.
    pub rate_limit_per_min: Option<u32>,
    pub burst: Option<u32>,
    pub expires_in: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeyFields {
    tenant: TenantId,
    name: ShortText,
    kind: KeyKind,
    scopes: Option<BTreeSet<Scope>>,
    rate_limit_per_min: Option<NonZeroU32>,
    burst: Option<NonZeroU32>,
    expires_in_sec: Option<NonZeroU64>,
}

#[derive(Debug, thiserror::Error)]
enum NewKeyError {
    #[error("a publishable key may only have the scope \"write\", because anyone can read the key")]
    TooMuchForPublic,
    #[error("\"scopes\" is empty: give at least one of write, read, operate")]
    NoScope,
}

impl TryFrom<NewKeyFields> for NewKey {
    type Error = NewKeyError;

    fn try_from(fields: NewKeyFields) -> Result<Self, NewKeyError> {
        let write = BTreeSet::from([Scope::Write]);
        let scopes = fields.scopes.unwrap_or_else(|| write.clone());
        if scopes.is_empty() {
            return Err(NewKeyError::NoScope);
        }
        if fields.kind == KeyKind::Publishable && scopes != write {
            return Err(NewKeyError::TooMuchForPublic);
        }
        Ok(NewKey {
            tenant: fields.tenant,
            name: fields.name,
            kind: fields.kind,
            scopes,
            rate_limit_per_min: fields.rate_limit_per_min.map(NonZeroU32::get),
            burst: fields.burst.map(NonZeroU32::get),
            expires_in: seconds(fields.expires_in_sec),
        })
    }
}

fn seconds(number: Option<NonZeroU64>) -> Option<Duration> {
    number.map(|seconds| Duration::from_secs(seconds.get()))
}

/// A key of which the request has the key itself or its hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ChosenKeyFields")]
pub struct ChosenKey {
    pub hash: KeyHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChosenKeyFields {
    key: Option<String>,
    key_hash: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum ChosenKeyError {
    #[error("give exactly one of \"key\" and \"key_hash\"")]
    NotOne,
    #[error("\"key_hash\" is {0}")]
    Malformed(#[from] KeyHashError),
}

fn chosen(key: Option<String>, key_hash: Option<String>) -> Result<KeyHash, ChosenKeyError> {
    match (key, key_hash) {
        (Some(key), None) => Ok(KeyHash::of(key.as_bytes())),
        (None, Some(hash)) => Ok(hash.parse()?),
        (Some(_), Some(_)) | (None, None) => Err(ChosenKeyError::NotOne),
    }
}

impl TryFrom<ChosenKeyFields> for ChosenKey {
    type Error = ChosenKeyError;

    fn try_from(fields: ChosenKeyFields) -> Result<Self, ChosenKeyError> {
        Ok(ChosenKey { hash: chosen(fields.key, fields.key_hash)? })
    }
}

/// The key to replace by a new one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RotationFields")]
pub struct Rotation {
    pub hash: KeyHash,
    /// How long the old key still works.
    pub grace: Duration,
    /// After this time the new key expires; `None` if it does not.
    pub expires_in: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationFields {
    key: Option<String>,
    key_hash: Option<String>,
    grace_sec: Option<u64>,
    expires_in_sec: Option<NonZeroU64>,
}

impl TryFrom<RotationFields> for Rotation {
    type Error = ChosenKeyError;

    fn try_from(fields: RotationFields) -> Result<Self, ChosenKeyError> {
        Ok(Rotation {
            hash: chosen(fields.key, fields.key_hash)?,
            grace: fields.grace_sec.map_or(DEFAULT_GRACE, Duration::from_secs),
            expires_in: seconds(fields.expires_in_sec),
        })
    }
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
        assert_eq!(parse(&sample("maintainer", "list-topics")), Ok(Request::ListTopics {}));
        assert_eq!(parse(&sample("maintainer", "lag")), Ok(Request::Lag {}));
        let tail = Request::TailTopic {
            topic: TopicName("dead-letter-events"),
            records: TailLimit::try_from(5).unwrap(),
            values: false,
        };
        assert_eq!(parse(&sample("maintainer", "tail-topic")), Ok(tail));
        let address = "203.0.113.7".parse().unwrap();
        let (tenant, event_id) = (TenantId::new("samples").unwrap(), EventId::new("order-1001").unwrap());
        assert_eq!(parse(&sample("maintainer", "show-dedup")), Ok(Request::ShowDedup { tenant, event_id }));
        assert_eq!(parse(&sample("maintainer", "show-limits")), Ok(Request::ShowLimits { address }));
        assert_eq!(parse(&sample("maintainer", "find-block")), Ok(Request::FindBlock { address }));
        let webhook: EndpointId = "wh_0123456789abcdef0123".parse().unwrap();
        for (case, request) in [
            ("rotate-webhook", Request::RotateWebhook { webhook: webhook.clone() }),
            ("pause-webhook", Request::PauseWebhook { webhook: webhook.clone(), reason: None }),
            ("resume-webhook", Request::ResumeWebhook { webhook: webhook.clone() }),
            ("delete-webhook", Request::DeleteWebhook { webhook }),
        ] {
            assert_eq!(parse(&sample("maintainer", case)), Ok(request), "{case}");
        }
        let Ok(Request::CreateWebhook(new)) = parse(&sample("maintainer", "create-webhook")) else {
            panic!("create-webhook")
        };
        assert_eq!(new.outcomes, BTreeSet::from([Outcome::Fraud, Outcome::DeadLettered]));
        assert_eq!(parse(&sample("maintainer", "reconcile")), Ok(Request::Reconcile {}));
        let address = "203.0.113.7".parse().unwrap();
        let for_sec = NonZeroU64::new(3600);
        assert_eq!(
            parse(&sample("maintainer", "block")),
            Ok(Request::Block { address, reason: short("scraping"), for_sec })
        );
        assert_eq!(parse(&sample("maintainer", "unblock")), Ok(Request::Unblock { address }));
        let address = "198.51.100.0/24".parse().unwrap();
        let reason = short("our offices");
        assert_eq!(parse(&sample("maintainer", "allow")), Ok(Request::Allow { address, reason, for_sec: None }));
        assert_eq!(parse(&sample("maintainer", "disallow")), Ok(Request::Disallow { address }));
        let tenant = TenantId::new("acme").unwrap();
        let expected = NewKey {
            tenant: tenant.clone(),
            name: short("collector-eu-1"),
            kind: KeyKind::Server,
            scopes: BTreeSet::from([Scope::Write, Scope::Read]),
            rate_limit_per_min: Some(6000),
            burst: Some(1000),
            expires_in: Some(Duration::from_secs(90 * 86_400)),
        };
        assert_eq!(parse(&sample("maintainer", "create-key")), Ok(Request::CreateKey(expected)));
        let public = parse(&sample("maintainer", "create-publishable-key")).unwrap();
        let Request::CreateKey(public) = public else { panic!("{public:?}") };
        assert_eq!((public.kind, public.scopes), (KeyKind::Publishable, BTreeSet::from([Scope::Write])));
        assert_eq!(parse(&sample("maintainer", "list-keys")), Ok(Request::ListKeys { tenant: Some(tenant) }));
        let hash = KeyHash::of(b"sample-key");
        let rotation = Rotation { hash, grace: Duration::from_secs(3600), expires_in: None };
        assert_eq!(parse(&sample("maintainer", "rotate-key")), Ok(Request::RotateKey(rotation)));
        assert_eq!(parse(&sample("maintainer", "revoke-key")), Ok(Request::RevokeKey(ChosenKey { hash })));
        let day = Some(Timestamp::parse("2026-11-20T00:00:00Z").unwrap());
        assert_eq!(parse(&sample("maintainer", "audit")), Ok(Request::Audit { day }));
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
            (
                r#"{"action":"tail-topic","topic":"events"}"#.into(),
                "field \"topic\": not one of raw-events, processed-events, dead-letter-events",
            ),
            (r#"{"action":"tail-topic","topic":"raw-events","records":101}"#.into(), "field \"records\": not 1 to 100"),
            (r#"{"action":"block","address":"::1","reason":""}"#.into(), "field \"reason\": not 1 to 200"),
            (
                r#"{"action":"block","address":"::1","reason":"x","for_sec":0}"#.into(),
                "field \"for_sec\": invalid value: integer `0`, expected a whole number of at least 1",
            ),
            (
                r#"{"action":"block","address":"::1","reason":"x","for":9}"#.into(),
                "unknown field `for`, expected one of",
            ),
            (r#"{"action":"create-key","tenant":"A/B","name":"x"}"#.into(), "field \"tenant\": a tenant has"),
            (r#"{"action":"create-key","tenant":"a","name":"x"}"#.into(), "missing field `kind`"),
            (
                r#"{"action":"create-key","tenant":"a","name":"x","kind":"root"}"#.into(),
                "field \"kind\": unknown variant `root`, expected `server` or `publishable`",
            ),
            (
                r#"{"action":"create-key","tenant":"a","name":"x","kind":"server","scopes":["admin"]}"#.into(),
                "field \"scopes.0\": unknown variant `admin`, expected one of `write`, `read`, `operate`",
            ),
            (
                r#"{"action":"create-key","tenant":"a","name":"x","kind":"server","scopes":[]}"#.into(),
                "\"scopes\" is empty",
            ),
            (
                r#"{"action":"create-key","tenant":"a","name":"x","kind":"publishable","scopes":["read"]}"#.into(),
                "may only have the scope \"write\"",
            ),
            (r#"{"action":"rotate-key","grace_sec":1}"#.into(), "one of \"key\" and \"key_hash\""),
            (
                r#"{"action":"create-key","tenant":"a","name":"x","kind":"server","burst":-1}"#.into(),
                "field \"burst\": invalid value: integer `-1`, expected a whole number from 1 to 4294967295",
            ),
            (
                r#"{"action":"list-keys","tenant":7}"#.into(),
                "field \"tenant\": invalid type: integer `7`, expected a string",
            ),
            (r#"{"action":"maintain","x":1}"#.into(), "unknown field `x`"),
            (r#"{"action":"revoke-key"}"#.into(), "one of \"key\" and \"key_hash\""),
            (r#"{"action":"revoke-key","key_hash":"zz"}"#.into(), "\"key_hash\" is not 64 hexadecimal digits"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }

    #[test]
    fn a_webhook_that_could_not_be_called_or_told_is_refused() {
        let create = |url: &str, outcomes: &str| {
            parse(&format!(r#"{{"action":"create-webhook","tenant":"acme","url":"{url}","outcomes":{outcomes}}}"#))
        };
        for (url, outcomes, expected) in [
            ("http://hooks.example.com/", r#"["fraud"]"#, "field \"url\": not an https URL"),
            ("https://hooks.example.com/", r#"["good"]"#, "field \"outcomes.0\": unknown variant"),
            ("https://hooks.example.com/", "[]", "\"outcomes\" is empty: give at least one of valid, fraud, duplicate"),
        ] {
            let error = create(url, outcomes).unwrap_err();
            assert!(error.contains(expected), "{url} {outcomes}: {error}");
        }
    }

    #[test]
    fn a_hash_is_read_as_it_is_shown() {
        let hash = KeyHash::of(b"fb_x");
        assert_eq!(
            parse(&format!(r#"{{"action":"revoke-key","key_hash":"{hash}"}}"#)),
            Ok(Request::RevokeKey(ChosenKey { hash }))
        );
        assert_eq!(parse(r#"{"action":"revoke-key","key":"fb_x"}"#), Ok(Request::RevokeKey(ChosenKey { hash })));
    }

    #[test]
    fn the_audit_trail_gets_every_change_and_never_a_key() {
        let audited = |text: &str| parse(text).unwrap().audited().map(|audited| audited.to_string());
        for action in ["rotate-key", "revoke-key"] {
            let kept = audited(&format!(r#"{{"action":"{action}","key":"fb_server_x"}}"#)).unwrap();
            assert!(kept.contains(&KeyHash::of(b"fb_server_x").to_string()) && !kept.contains("fb_server_x"), "{kept}");
        }
        for sample_name in [
            "block",
            "unblock",
            "allow",
            "disallow",
            "create-key",
            "create-publishable-key",
            "create-webhook",
            "rotate-webhook",
            "pause-webhook",
            "resume-webhook",
            "delete-webhook",
        ] {
            assert!(audited(&sample("maintainer", sample_name)).is_some(), "{sample_name}");
        }
        for sample_name in [
            "maintain",
            "list-blocks",
            "find-block",
            "show-limits",
            "show-dedup",
            "list-topics",
            "lag",
            "tail-topic",
            "list-keys",
            "list-webhooks",
            "audit",
            "reconcile",
        ] {
            assert_eq!(audited(&sample("maintainer", sample_name)), None, "{sample_name}");
        }
    }
}
