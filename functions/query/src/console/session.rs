//! Who is signed in, in a cookie that nobody can make but the console. Pure.
//!
//! A session is a key's hash and an end, signed. No instance keeps anything of it, and the key is looked up for each request, so
//! a key that is revoked ends its sessions.

use std::time::Duration;

use base64_simd::URL_SAFE_NO_PAD;
use event::Timestamp;
use pipeline::ports::KeyHash;
use pipeline::root_key::RootKey;

const SIGN_SESSION: &[u8] = b"forebay console session\n";
const SIGN_FORM: &[u8] = b"forebay console form\n";

const HASH_BYTES: usize = 32;
const CLAIM_BYTES: usize = HASH_BYTES + 8;
const CODE_BYTES: usize = 32;

/// Begins sessions and recognises them.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    key: RootKey,
    longest: Duration,
}

/// A session that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub hash: KeyHash,
    claim: [u8; CLAIM_BYTES],
}

impl Sessions {
    pub fn new(key: RootKey, longest: Duration) -> Self {
        Sessions { key, longest }
    }

    /// How long a session lasts.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The text of a new session.
    pub fn begin(&self, hash: KeyHash, now: Timestamp) -> String {
        let ends_at = now.plus(self.longest);
        let mut bytes = [0; CLAIM_BYTES + CODE_BYTES];
        bytes[..HASH_BYTES].copy_from_slice(&hash.0);
        bytes[HASH_BYTES..CLAIM_BYTES].copy_from_slice(&ends_at.as_millis().to_be_bytes());
        let code = self.key.code(&[SIGN_SESSION, &bytes[..CLAIM_BYTES]]);
        bytes[CLAIM_BYTES..].copy_from_slice(&code);
        URL_SAFE_NO_PAD.encode_to_string(bytes)
    }

    /// The session that a text is, unless it has ended.
    pub fn read(&self, text: &str, now: Timestamp) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let (claim, code) = bytes.split_first_chunk::<CLAIM_BYTES>()?;
        if !self.key.is_code(code, &[SIGN_SESSION, claim]) {
            return None;
        }
        let (hash, ends_at) = claim.split_first_chunk::<HASH_BYTES>()?;
        let ends_at = Timestamp::from_millis(i64::from_be_bytes(ends_at.try_into().ok()?));
        (now < ends_at).then_some(Session { hash: KeyHash(*hash), claim: *claim })
    }

    /// What a form of this session has as `csrf`. Other sites cannot read it, and it is good for this session only.
    pub fn form_token(&self, session: &Session) -> String {
        URL_SAFE_NO_PAD.encode_to_string(self.key.code(&[SIGN_FORM, &session.claim]))
    }

    pub fn is_form_token(&self, session: &Session, token: &str) -> bool {
        let code = URL_SAFE_NO_PAD.decode_to_vec(token);
        code.is_ok_and(|code| self.key.is_code(&code, &[SIGN_FORM, &session.claim]))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn sessions(key: &str) -> Sessions {
        Sessions::new(RootKey::try_from(SecretString::from(key)).unwrap(), HOUR)
    }

    fn ours() -> Sessions {
        sessions("a root key that is long enough to be one")
    }

    #[test]
    fn a_session_is_its_keys_until_it_ends() {
        let (sessions, hash) = (ours(), KeyHash::of(b"key"));
        let text = sessions.begin(hash, NOW);
        let read = |at| sessions.read(&text, at).map(|session| session.hash);
        assert_eq!(read(NOW), Some(hash));
        assert_eq!(read(NOW.plus(HOUR - Duration::from_millis(1))), Some(hash));
        assert_eq!(read(NOW.plus(HOUR)), None);
    }

    #[test]
    fn nobody_else_can_make_one_or_change_one() {
        let sessions = ours();
        let text = sessions.begin(KeyHash::of(b"key"), NOW);
        let other = self::sessions("another key that is long enough for it").begin(KeyHash::of(b"key"), NOW);
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(&text).unwrap();
        for changed in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            assert_eq!(sessions.read(&URL_SAFE_NO_PAD.encode_to_string(bytes), NOW), None, "{changed}");
        }
        for text in [other.as_str(), "", "a", &text[..text.len() - 2], &text.repeat(2)] {
            assert_eq!(sessions.read(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn a_form_is_good_for_its_session_only() {
        let sessions = ours();
        let session = |at| sessions.read(&sessions.begin(KeyHash::of(b"key"), at), at).unwrap();
        let (one, later) = (session(NOW), session(NOW.plus(Duration::from_millis(1))));
        let token = sessions.form_token(&one);
        assert!(sessions.is_form_token(&one, &token));
        assert!(!sessions.is_form_token(&later, &token));
        // A session is no token, although the same key signs both.
        let text = sessions.begin(KeyHash::of(b"key"), NOW);
        assert!(!sessions.is_form_token(&one, &text[text.len() - 43..]));
        assert!(!sessions.is_form_token(&one, ""));
    }
}
