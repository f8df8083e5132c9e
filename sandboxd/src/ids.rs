//! Names and secrets that the daemon makes up: sandbox ids, access tokens, API keys.
//!
//! ```text
//!   sandbox id   i + 20 of [a-z0-9]          103 bits; also a DNS label, a folder name and a cgroup name
//!                p + 20 of [a-z0-9]          the same for a process that waits for a sandbox; no client sees it
//!   snapshot id  s + 20 of [a-z0-9]          103 bits; also a folder name
//!   token        32 of [A-Za-z0-9]           190 bits
//!   API key      e2b_ + 40 hex digits        160 bits; only its SHA-256 is stored
//! ```
//!
//! An id that comes from outside is accepted with a `-suffix` (older clients append a client id) and used without it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Longest sandbox id that is accepted from outside; a DNS label has at most 63 characters (RFC 1035, 2.3.4).
const MAX_ID_LEN: usize = 63;

const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const MIXED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Why no secret could be made.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// The kernel gave no random bytes.
    #[error("The kernel gave no random bytes: {0}.")]
    Random(getrandom::Error),
}

/// Identifier of a sandbox: lower-case letters and digits only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(Arc<str>);

impl SandboxId {
    /// A new id.
    pub fn generate() -> Result<Self, IdError> {
        Ok(Self(format!("i{}", random_text(LOWER, 20)?).into()))
    }

    /// A name for a process that waits for a sandbox: what is called by it is found like what is a sandbox's.
    pub fn generate_waiting() -> Result<Self, IdError> {
        Ok(Self(format!("p{}", random_text(LOWER, 20)?).into()))
    }

    /// Reads an id as clients write it, with or without a `-suffix`.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.split_once('-').map_or(text, |(id, _)| id);
        let valid = !id.is_empty()
            && id.len() <= MAX_ID_LEN
            && id
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        valid.then(|| Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifier of a snapshot: lower-case letters and digits only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(Arc<str>);

impl SnapshotId {
    /// A new id.
    pub fn generate() -> Result<Self, IdError> {
        Ok(Self(format!("s{}", random_text(LOWER, 20)?).into()))
    }

    /// Reads an id: `s` and further lower-case letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.starts_with('s')
            && text.len() <= MAX_ID_LEN
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        valid.then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A new access token.
pub fn token() -> Result<String, IdError> {
    random_text(MIXED, 32)
}

/// A new API key.
pub fn api_key() -> Result<String, IdError> {
    let mut bytes = [0u8; 20];
    getrandom::fill(&mut bytes).map_err(IdError::Random)?;
    Ok(format!("e2b_{}", hex::encode(bytes)))
}

/// SHA-256 of a secret, what is stored in its place.
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
pub fn secrets_equal(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// `length` characters drawn evenly from `alphabet` (at most 128 characters): a byte outside the largest multiple of
/// its size is thrown away.
fn random_text(alphabet: &[u8], length: usize) -> Result<String, IdError> {
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(IdError::Random)?;
        for byte in bytes {
            let value = usize::from(byte);
            if value < fair && text.len() < length {
                text.push(char::from(alphabet[value % alphabet.len()]));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{SandboxId, api_key, secret_hash, secrets_equal, token};

    #[test]
    fn made_up_names_have_the_documented_form() {
        let id = SandboxId::generate().unwrap();
        assert_eq!(id.as_str().len(), 21);
        assert_eq!(SandboxId::parse(id.as_str()), Some(id.clone()));
        assert_ne!(id, SandboxId::generate().unwrap());
        assert_eq!(token().unwrap().len(), 32);
        let key = api_key().unwrap();
        let digits = key.strip_prefix("e2b_").unwrap();
        assert_eq!(digits.len(), 40);
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn a_suffix_is_cut_off() {
        let id = SandboxId::parse("iabc-6532622b-more").unwrap();
        assert_eq!(id.as_str(), "iabc");
        for bad in ["", "-x", "Iabc", "i_bc", "i/../x", "ä", &"a".repeat(64)] {
            assert_eq!(SandboxId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_compare_and_hash() {
        assert!(secrets_equal("abc", "abc"));
        assert!(!secrets_equal("abc", "abd"));
        assert!(!secrets_equal("abc", "ab"));
        assert_eq!(
            hex::encode(secret_hash("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    proptest! {
        #[test]
        fn an_accepted_id_is_a_safe_file_name(text in ".{0,80}") {
            if let Some(id) = SandboxId::parse(&text) {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
                prop_assert!(!id.as_str().is_empty());
            }
        }
    }
}
