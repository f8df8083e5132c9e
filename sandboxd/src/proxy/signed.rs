//! Finding the sandbox of a signed file URL by its signature. Pure.
//!
//! A client whose sandbox URL is fixed builds signed URLs in which no sandbox is named, and plain HTTP clients send no
//! routing headers with them. What is left is the signature: it was made with one sandbox's token,
//!
//! ```text
//!   v1_ + base64 without padding of SHA-256( path : operation : user : token [ : expiration ] )
//! ```
//!
//! so the sandbox is the one whose token gives the same. The agent checks the signature again, and its expiration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{Method, Uri};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::ids::secrets_equal;

/// What a signed URL says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SignedQuery {
    #[serde(default)]
    path: String,
    #[serde(default)]
    username: String,
    signature: Option<String>,
    signature_expiration: Option<String>,
}

/// Why no sandbox is found; the agent says the same of a request that reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// There is no signature.
    #[error("missing signature query parameter")]
    Missing,
    /// No running sandbox made the signature.
    #[error("invalid signature")]
    Invalid,
}

/// The sandbox among `candidates` (with their tokens) whose token made the signature of a URL.
pub fn find<'a, T>(
    method: &Method,
    uri: &Uri,
    candidates: impl IntoIterator<Item = (T, &'a str)>,
) -> Result<T, SignedError> {
    let query = axum::extract::Query::<SignedQuery>::try_from_uri(uri);
    let query = query.map(|query| query.0).unwrap_or_default();
    let signature = query.signature.as_deref().ok_or(SignedError::Missing)?;
    let operation = if *method == Method::POST {
        "write"
    } else {
        "read"
    };
    candidates
        .into_iter()
        .find(|(_, token)| secrets_equal(&query.sign(operation, token), signature))
        .map(|(sandbox, _)| sandbox)
        .ok_or(SignedError::Invalid)
}

impl SignedQuery {
    fn sign(&self, operation: &str, token: &str) -> String {
        let mut text = format!("{}:{operation}:{}:{token}", self.path, self.username);
        if let Some(expiration) = &self.signature_expiration {
            text.push(':');
            text.push_str(expiration);
        }
        let digest = Sha256::digest(text.as_bytes());
        format!("v1_{}", STANDARD_NO_PAD.encode(digest))
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::{SignedError, SignedQuery, find};

    const TOKEN: &str = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";

    fn signed(operation: &str, path: &str, expiration: Option<&str>) -> Uri {
        let query = SignedQuery {
            path: path.to_owned(),
            username: "user".to_owned(),
            signature: None,
            signature_expiration: expiration.map(str::to_owned),
        };
        let signature = query.sign(operation, TOKEN).replace('+', "%2B");
        let path = path.replace(' ', "%20");
        let expiration = expiration.map_or(String::new(), |e| format!("&signature_expiration={e}"));
        format!("/files?path={path}&username=user&signature={signature}{expiration}")
            .parse()
            .unwrap()
    }

    #[test]
    fn the_published_vector() {
        let query = SignedQuery {
            path: "hello.txt".to_owned(),
            username: "user".to_owned(),
            ..SignedQuery::default()
        };
        assert_eq!(
            query.sign("read", TOKEN),
            "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"
        );
    }

    #[test]
    fn the_sandbox_is_the_one_that_signed() {
        let tokens = [("a", "other"), ("b", TOKEN)];
        let found = |method: Method, uri: &Uri| find(&method, uri, tokens);
        for n in 0..20 {
            let uri = signed("read", &format!("my file {n}.txt"), Some("1900000000"));
            assert_eq!(found(Method::GET, &uri), Ok("b"), "{uri}");
            assert_eq!(found(Method::POST, &uri), Err(SignedError::Invalid));
        }
        let write = signed("write", "a", None);
        assert_eq!(found(Method::POST, &write), Ok("b"));
        let bare = Uri::from_static("/files?path=a");
        assert_eq!(found(Method::GET, &bare), Err(SignedError::Missing));
        assert_eq!(
            found(Method::GET, &Uri::from_static("/files")),
            Err(SignedError::Missing)
        );
    }
}
