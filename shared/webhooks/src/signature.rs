//! Signatures, as Standard Webhooks has them (<https://github.com/standard-webhooks/standard-webhooks>, "Signature scheme").
//!
//! No secret is stored. The secret of an endpoint is made from one root key, the endpoint's id and a number that counts its
//! secrets. So a copy of the database lets nobody sign, and a new secret needs no more than a new number.

use std::time::Duration;

use base64_simd::STANDARD;
use event::Timestamp;
use pipeline::root_key::{RootKey, message_code};
use secrecy::SecretString;

use crate::{EndpointId, WebhookEndpoint};

/// How long the secret before signs too after a change, so that a receiver has time to change over.
pub const ROTATION_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The secret of an endpoint, as its owner gets it: `whsec_` and base64.
pub fn shown_secret(key: &RootKey, endpoint: &EndpointId, version: u32) -> SecretString {
    format!("whsec_{}", STANDARD.encode_to_string(secret(key, endpoint, version))).into()
}

/// The value of `webhook-signature`: one signature, or two while the secret before is still good at `now`.
///
/// The receiver compares it with its own over the id, the time in seconds since 1970 and the body, as they are sent.
pub fn signatures(key: &RootKey, endpoint: &WebhookEndpoint, message_id: &str, now: Timestamp, body: &[u8]) -> String {
    let signature = |version| {
        let signature = signed(&secret(key, &endpoint.id, version), message_id, now, body);
        format!("v1,{}", STANDARD.encode_to_string(signature))
    };
    let mut value = signature(endpoint.secret_version);
    if endpoint.previous_until.is_some_and(|until| now < until) {
        value.push(' ');
        value.push_str(&signature(endpoint.secret_version.saturating_sub(1)));
    }
    value
}

fn secret(key: &RootKey, endpoint: &EndpointId, version: u32) -> [u8; 32] {
    key.code(&[format!("forebay webhook secret\n{endpoint}\n{version}").as_bytes()])
}

fn signed(secret: &[u8], message_id: &str, now: Timestamp, body: &[u8]) -> [u8; 32] {
    let seconds = now.as_secs().to_string();
    message_code(secret, &[message_id.as_bytes(), b".", seconds.as_bytes(), b".", body])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use event::TenantId;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn root() -> RootKey {
        RootKey::try_from(SecretString::from("a root key that is long enough to be one")).unwrap()
    }

    fn endpoint(version: u32, previous_until: Option<Timestamp>) -> WebhookEndpoint {
        WebhookEndpoint {
            id: EndpointId::of([1; EndpointId::BYTES]),
            tenant: TenantId::new("acme").unwrap(),
            target: "https://hooks.example.com/".parse().unwrap(),
            outcomes: BTreeSet::new(),
            event_types: BTreeSet::new(),
            secret_version: version,
            previous_until,
            paused: None,
            created_at: Timestamp::EPOCH,
        }
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let secret = STANDARD.decode_to_vec("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let now = Timestamp::from_millis(1_614_265_330_999);
        let signature = signed(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#);
        assert_eq!(STANDARD.encode_to_string(signature), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_new_secret_and_the_one_before_sign_until_the_grace_is_over() {
        let (root, until) = (root(), Timestamp::from_millis(2_000));
        let sign = |endpoint: &WebhookEndpoint, at| signatures(&root, endpoint, "m", Timestamp::from_millis(at), b"x");
        let old = sign(&endpoint(1, None), 1_999);
        let both = sign(&endpoint(2, Some(until)), 1_999);
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1], old);
        assert_eq!(sign(&endpoint(2, Some(until)), 2_000).split(' ').count(), 1);
    }

    #[test]
    fn each_endpoint_and_each_version_has_its_own_secret() {
        let (root, one, two) = (root(), EndpointId::of([1; 10]), EndpointId::of([2; 10]));
        let secrets = [(&one, 1), (&one, 2), (&two, 1)].map(|(id, version)| shown_secret(&root, id, version));
        let secrets: BTreeSet<&str> = secrets.iter().map(|secret| secret.expose_secret()).collect();
        assert_eq!(secrets.len(), 3);
        assert!(secrets.iter().all(|secret| secret.starts_with("whsec_")));
    }
}
