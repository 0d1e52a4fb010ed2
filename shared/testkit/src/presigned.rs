//! A presigned request, checked as AWS does: with the secret key that belongs to the caller's key id, the signature is
//! computed again and compared.
//!
//! Follows "Signature Version 4" in the IAM user guide, and shares no code with the clients that sign: a mistake in one of
//! them must not be in this, too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use event::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

/// What stays as it is in a canonical query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How far a caller's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(5 * 60);

const SIGNATURE: &str = "X-Amz-Signature";

/// A key that AWS knows, and what it is used for.
#[derive(Clone, Debug)]
pub struct KnownKey {
    pub id: String,
    pub secret: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
    pub region: String,
    pub service: &'static str,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A parameter is missing or malformed.
    Malformed(&'static str),
    /// Another key, region or service, or the session token is not that of the key.
    NotThisKey,
    Expired,
    NotYet,
    Signature,
}

impl KnownKey {
    /// Checks a `GET` of `/` at `host` with these parameters (decoded) at that time.
    ///
    /// # Errors
    /// Why it is refused; the signature is compared last.
    pub fn check(&self, host: &str, parameters: &BTreeMap<String, String>, now: Timestamp) -> Result<(), Refusal> {
        let parameter = |name| parameters.get(name).map(String::as_str).ok_or(Refusal::Malformed(name));
        if parameter("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
            return Err(Refusal::Malformed("X-Amz-Algorithm"));
        }
        if parameter("X-Amz-SignedHeaders")? != "host" {
            return Err(Refusal::Malformed("X-Amz-SignedHeaders"));
        }
        let time = parameter("X-Amz-Date")?;
        let (day, signed_at) = day_and_time(time).ok_or(Refusal::Malformed("X-Amz-Date"))?;
        let seconds = parameter("X-Amz-Expires")?.parse().map_err(|_| Refusal::Malformed("X-Amz-Expires"))?;

        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let token = parameters.get("X-Amz-Security-Token");
        if parameter("X-Amz-Credential")? != format!("{}/{scope}", self.id) || token != self.session_token.as_ref() {
            return Err(Refusal::NotThisKey);
        }
        if now >= signed_at.plus(Duration::from_secs(seconds)) {
            return Err(Refusal::Expired);
        }
        if signed_at > now.plus(AHEAD) {
            return Err(Refusal::NotYet);
        }

        let query: Vec<String> = parameters
            .iter()
            .filter(|(name, _)| *name != SIGNATURE)
            .map(|(name, value)| {
                format!("{}={}", utf8_percent_encode(name, ENCODED), utf8_percent_encode(value, ENCODED))
            })
            .collect();
        let payload = hex(&Sha256::digest(b""));
        let canonical = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{payload}", query.join("&"));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [day, &self.region, self.service, "aws4_request", &to_sign] {
            key = hmac(&key, part.as_bytes()).to_vec();
        }
        if parameter(SIGNATURE)? == hex(&key) { Ok(()) } else { Err(Refusal::Signature) }
    }
}

/// From `20240826T220000Z`.
fn day_and_time(text: &str) -> Option<(&str, Timestamp)> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let of = |text: &str, from: usize, to: usize| text.get(from..to).map(str::to_owned);
    let date = [of(day, 0, 4)?, of(day, 4, 6)?, of(day, 6, 8)?].join("-");
    let clock = [of(time, 0, 2)?, of(time, 2, 4)?, of(time, 4, 6)?].join(":");
    Some((day, Timestamp::parse(&format!("{date}T{clock}Z")).ok()?))
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    let hashed = Sha256::digest(key);
    let key = if key.len() > BLOCK { hashed.as_slice() } else { key };
    for (byte, of_key) in block.iter_mut().zip(key) {
        *byte = *of_key;
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "prod-instance.us-east-1.rds.amazonaws.com:3306";

    /// The example that AWS's own generator of tokens is tested with (aws-sdk-rds, `auth_token.rs`, `signing_works`).
    fn example() -> (KnownKey, BTreeMap<String, String>) {
        let key = KnownKey {
            id: "akid".into(),
            secret: "secret".into(),
            session_token: None,
            region: "us-east-1".into(),
            service: "rds-db",
        };
        let parameters = [
            ("Action", "connect"),
            ("DBUser", "peccy"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "akid/20240826/us-east-1/rds-db/aws4_request"),
            ("X-Amz-Date", "20240826T220000Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
            (SIGNATURE, "dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"),
        ];
        (key, parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    fn signed_at() -> Timestamp {
        Timestamp::parse("2024-08-26T22:00:00Z").unwrap()
    }

    #[test]
    fn the_example_of_aws_is_accepted_until_it_expires() {
        let (key, parameters) = example();
        let valid = Duration::from_secs(900);
        assert_eq!(key.check(HOST, &parameters, signed_at()), Ok(()));
        assert_eq!(key.check(HOST, &parameters, signed_at().plus(valid - Duration::from_millis(1))), Ok(()));
        assert_eq!(key.check(HOST, &parameters, signed_at().plus(valid)), Err(Refusal::Expired));
        let day_before = Timestamp::parse("2024-08-25T22:00:00Z").unwrap();
        assert_eq!(key.check(HOST, &parameters, day_before), Err(Refusal::NotYet));
    }

    #[test]
    fn whatever_is_changed_is_found() {
        let (key, parameters) = example();
        let secret = KnownKey { secret: "another".into(), ..key.clone() };
        assert_eq!(secret.check(HOST, &parameters, signed_at()), Err(Refusal::Signature));
        assert_eq!(key.check("elsewhere:3306", &parameters, signed_at()), Err(Refusal::Signature));
        for (name, value, refusal) in [
            ("DBUser", "admin", Refusal::Signature),
            ("X-Amz-Expires", "901", Refusal::Signature),
            ("X-Amz-Date", "20240826T220001Z", Refusal::Signature),
            ("X-Amz-Date", "yesterday", Refusal::Malformed("X-Amz-Date")),
            ("X-Amz-Credential", "akid/20240826/eu-west-1/rds-db/aws4_request", Refusal::NotThisKey),
            ("X-Amz-Credential", "akid/20240826/us-east-1/kafka-cluster/aws4_request", Refusal::NotThisKey),
            ("X-Amz-Security-Token", "token", Refusal::NotThisKey),
        ] {
            let mut parameters = parameters.clone();
            parameters.insert(name.to_owned(), value.to_owned());
            assert_eq!(key.check(HOST, &parameters, signed_at()), Err(refusal), "{name}={value}");
        }
    }
}
