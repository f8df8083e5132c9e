//! Encodings that clients use: percent, base64, and file signatures.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// Percent-encodes all but letters, digits and `-_.~`.
#[must_use]
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The `metadata` query value as SDKs send it: each key and value encoded, joined as a query string (which encodes
/// again), then encoded once more as a parameter.
#[must_use]
pub fn metadata_filter(pairs: &[(&str, &str)]) -> String {
    let joined: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{}={}", percent(&percent(key)), percent(&percent(value))))
        .collect();
    percent(&joined.join("&"))
}

/// Base64 with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64 with padding.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The `Authorization` header that chooses a user: Basic, no password.
#[must_use]
pub fn user(name: &str) -> String {
    format!("Basic {}", base64(format!("{name}:").as_bytes()))
}

/// Signature of a file URL. `operation` is `read` or `write`, `expires` in unix seconds.
#[must_use]
pub fn signature(
    path: &str,
    operation: &str,
    user: &str,
    token: &str,
    expires: Option<i64>,
) -> String {
    let mut signed = format!("{path}:{operation}:{user}:{token}");
    if let Some(expires) = expires {
        signed.push_str(&format!(":{expires}"));
    }
    format!(
        "v1_{}",
        STANDARD_NO_PAD.encode(Sha256::digest(signed.as_bytes()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_sdks_test_vector() {
        let token = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";
        assert_eq!(
            signature("hello.txt", "read", "user", token, None),
            "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"
        );
    }

    #[test]
    fn the_metadata_filter_is_as_recorded_from_the_sdk() {
        assert_eq!(metadata_filter(&[("a b", "c&d")]), "a%252520b%3Dc%252526d");
    }
}
