//! A key of the installation from which others are made, or with which something is signed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// The fewest characters of a root key.
const FEWEST_CHARS: usize = 32;

/// A text that only the installation knows.
#[derive(Clone, Debug)]
pub struct RootKey(SecretString);

/// A root key that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has fewer than {FEWEST_CHARS} characters; make one, for example, with `openssl rand -base64 32`")]
pub struct RootKeyError;

impl TryFrom<SecretString> for RootKey {
    type Error = RootKeyError;

    fn try_from(text: SecretString) -> Result<Self, RootKeyError> {
        if text.expose_secret().chars().count() < FEWEST_CHARS { Err(RootKeyError) } else { Ok(RootKey(text)) }
    }
}

impl RootKey {
    /// HMAC-SHA256 over the parts, one behind the other. The first says what it is for, so that no two uses have the same code.
    pub fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        message_code(self.0.expose_secret().as_bytes(), parts)
    }

    /// Whether a code is that of the parts. It takes as long for a wrong one as for the right one.
    pub fn is_code(&self, code: &[u8], parts: &[&[u8]]) -> bool {
        message(self.0.expose_secret().as_bytes(), parts).is_some_and(|message| message.verify_slice(code).is_ok())
    }
}

/// HMAC-SHA256 with any key.
pub fn message_code(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of HMAC may have any length, so there always is one.
    message(key, parts).map_or([0; 32], |message| message.finalize().into_bytes().into())
}

fn message(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut message = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| message.update(part));
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 4231.
    #[test]
    fn a_code_is_hmac_sha256() {
        let code = message_code(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_code_is_good_for_its_parts_and_its_key_only() {
        let key = |text: &str| RootKey::try_from(SecretString::from(text)).unwrap();
        let (one, other) =
            (key("a root key that is long enough to be one"), key("another key that is long enough for it"));
        let code = one.code(&[b"purpose", b"a"]);
        assert!(one.is_code(&code, &[b"purpose", b"a"]));
        assert!(!one.is_code(&code, &[b"purpose", b"b"]));
        assert!(!one.is_code(&code[..31], &[b"purpose", b"a"]));
        assert!(!other.is_code(&code, &[b"purpose", b"a"]));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(RootKey::try_from(SecretString::from("x".repeat(31))).unwrap_err(), RootKeyError);
        assert!(RootKey::try_from(SecretString::from("x".repeat(32))).is_ok());
    }
}
