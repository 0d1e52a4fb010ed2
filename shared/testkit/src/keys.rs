//! API keys of the tenant `acme`.
#![expect(clippy::expect_used, reason = "test helpers fail by panicking")]

use std::collections::BTreeSet;

use event::TenantId;
use pipeline::ports::{ApiKey, KeyHash, KeyKind, Scope};

/// The key of a server, that may send and read, with the default limit. `secret` is also its name.
pub fn server_key(secret: &str) -> ApiKey {
    ApiKey {
        hash: KeyHash::of(secret.as_bytes()),
        tenant: TenantId::new("acme").expect("a tenant"),
        name: secret.to_owned(),
        kind: KeyKind::Server,
        scopes: BTreeSet::from([Scope::Write, Scope::Read]),
        rate_limit_per_min: None,
        burst: None,
        expires_at: None,
        revoked: false,
    }
}

/// The key of a page, that may send, with the default limit.
pub fn publishable_key(secret: &str) -> ApiKey {
    ApiKey { kind: KeyKind::Publishable, scopes: BTreeSet::from([Scope::Write]), ..server_key(secret) }
}
