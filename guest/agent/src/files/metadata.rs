//! `X-Metadata-<key>` headers of an upload: the metadata the file gets.
//!
//! ```text
//! key      lower-cased, 1 to 246 bytes (with the prefix "user.e2b." an attribute name holds 255)
//! value    printable ASCII
//! all      at most 4,096 bytes of keys and values together (what one ext4 block holds)
//! ```

use http::HeaderMap;

use crate::filesystem::metadata::Metadata;

/// What such a header's name starts with (names arrive in lower case).
const PREFIX: &str = "x-metadata-";
/// The longest key, in bytes.
const MAX_KEY: usize = 246;
/// The most bytes of all keys and values together.
const MAX_TOTAL: usize = 4096;

/// What is wrong with a metadata header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The header's name ends with the prefix.
    #[error("metadata header X-Metadata- has no key")]
    EmptyKey,
    /// Longer than an attribute name can be.
    #[error("metadata key {0:?} is longer than 246 bytes")]
    LongKey(String),
    /// Control characters or something beyond ASCII.
    #[error("the value of metadata key {0:?} is not printable ASCII")]
    Unprintable(String),
    /// The same key in two headers.
    #[error("metadata key {0:?} is given twice")]
    Repeated(String),
    /// More than fits.
    #[error("metadata keys and values exceed 4096 bytes in total")]
    TooLarge,
}

/// The metadata that `headers` ask for; empty when they say nothing.
///
/// # Errors
/// The first rule of the module that a header breaks.
pub fn from_headers(headers: &HeaderMap) -> Result<Metadata, MetadataError> {
    let mut metadata = Metadata::new();
    let mut total = 0usize;
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        if key.is_empty() {
            return Err(MetadataError::EmptyKey);
        }
        if key.len() > MAX_KEY {
            return Err(MetadataError::LongKey(key.to_owned()));
        }
        let value = std::str::from_utf8(value.as_bytes())
            .ok()
            .filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')))
            .ok_or_else(|| MetadataError::Unprintable(key.to_owned()))?;
        total = total.saturating_add(key.len()).saturating_add(value.len());
        if total > MAX_TOTAL {
            return Err(MetadataError::TooLarge);
        }
        if metadata.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(MetadataError::Repeated(key.to_owned()));
        }
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn keys_are_lower_cased_and_other_headers_are_nobodys_business() {
        let found = from_headers(&headers(&[
            ("X-Metadata-Team", "blue"),
            ("X-Metadata-Run-Id", "7 of 9"),
            ("Content-Type", "text/plain"),
        ]));
        let expected = Metadata::from([
            ("team".into(), "blue".into()),
            ("run-id".into(), "7 of 9".into()),
        ]);
        assert_eq!(found, Ok(expected));
        assert_eq!(from_headers(&headers(&[])), Ok(Metadata::new()));
    }

    #[test]
    fn each_rule_has_its_own_sentence() {
        let long_key = format!("x-metadata-{}", "k".repeat(247));
        let good_key = format!("x-metadata-{}", "k".repeat(246));
        let value = "v".repeat(2048);
        for (pairs, expected) in [
            (vec![("x-metadata-", "v")], MetadataError::EmptyKey),
            (
                vec![(long_key.as_str(), "v")],
                MetadataError::LongKey("k".repeat(247)),
            ),
            (
                vec![("x-metadata-a", "ä")],
                MetadataError::Unprintable("a".into()),
            ),
            (
                vec![("x-metadata-a", "a\tb")],
                MetadataError::Unprintable("a".into()),
            ),
            (
                vec![("x-metadata-a", "1"), ("x-metadata-A", "2")],
                MetadataError::Repeated("a".into()),
            ),
            (
                vec![("x-metadata-a", &value), ("x-metadata-b", &value)],
                MetadataError::TooLarge,
            ),
        ] {
            assert_eq!(from_headers(&headers(&pairs)), Err(expected));
        }
        assert!(from_headers(&headers(&[(&good_key, "v")])).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_fits(keys in proptest::collection::vec("[a-z]{1,300}", 0..8),
                                 value in proptest::collection::vec(32u8..=255, 0..3000)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut all = HeaderMap::new();
            for key in &keys {
                all.append(HeaderName::from_bytes(format!("x-metadata-{key}").as_bytes()).unwrap(), value.clone());
            }
            if let Ok(found) = from_headers(&all) {
                prop_assert!(found.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= MAX_TOTAL);
                prop_assert!(found.keys().all(|key| key.len() <= MAX_KEY));
                prop_assert!(found.values().all(|value| value.bytes().all(|b| (32..127).contains(&b))));
            }
        }
    }
}
