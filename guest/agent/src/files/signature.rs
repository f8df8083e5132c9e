//! Signed file URLs: who may read or write one path without the access token.
//!
//! ```text
//! text       <path>:<operation>:<user>:<token>[:<expiration>]
//! signature  "v1_" + base64(sha256(text)), standard alphabet, no padding
//! ```
//!
//! Path and user are the query values as the client wrote them (percent-decoded, not resolved); the user is
//! empty when the query has none. The expiration is in seconds since 1970. Source: E2B's `getSignature`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a signature allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// GET.
    Read,
    /// POST.
    Write,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The part of a request that decides about access.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim<'a> {
    /// The `X-Access-Token` header.
    pub token: Option<&'a str>,
    /// Query `signature`.
    pub signature: Option<&'a str>,
    /// Query `signature_expiration`.
    pub expiration: Option<i64>,
    /// Query `path`, empty when absent.
    pub path: &'a str,
    /// Query `username`, empty when absent.
    pub user: &'a str,
}

/// Why a request may not touch files. Clients compare these sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header is there and wrong; a signature does not help then.
    #[error("access token present in header but does not match")]
    TokenMismatch,
    /// Neither token nor signature.
    #[error("missing signature query parameter")]
    MissingSignature,
    /// Signed for something else, or with another token.
    #[error("invalid signature")]
    InvalidSignature,
    /// It was valid once.
    #[error("signature is already expired")]
    Expired,
}

/// Decides whether `claim` may do `operation`. Without an access token everything is open.
///
/// # Errors
/// The first rule that the claim breaks.
pub fn authorize(
    access_token: Option<&str>,
    claim: &Claim<'_>,
    operation: Operation,
    now_unix_s: i64,
) -> Result<(), Refusal> {
    let Some(access_token) = access_token else {
        return Ok(());
    };
    if let Some(token) = claim.token {
        return if bool::from(token.as_bytes().ct_eq(access_token.as_bytes())) {
            Ok(())
        } else {
            Err(Refusal::TokenMismatch)
        };
    }
    let given = claim.signature.ok_or(Refusal::MissingSignature)?;
    let expected = sign(
        claim.path,
        operation,
        claim.user,
        access_token,
        claim.expiration,
    );
    if !bool::from(given.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(Refusal::InvalidSignature);
    }
    match claim.expiration {
        Some(expiration) if expiration < now_unix_s => Err(Refusal::Expired),
        _ => Ok(()),
    }
}

/// The signature for one path.
pub fn sign(
    path: &str,
    operation: Operation,
    user: &str,
    access_token: &str,
    expiration: Option<i64>,
) -> String {
    let mut hash = Sha256::new();
    for part in [path, ":", operation.as_str(), ":", user, ":", access_token] {
        hash.update(part.as_bytes());
    }
    if let Some(expiration) = expiration {
        hash.update(format!(":{expiration}").as_bytes());
    }
    format!("v1_{}", STANDARD_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";

    #[test]
    fn the_published_test_vector_holds() {
        assert_eq!(
            sign("hello.txt", Operation::Read, "user", TOKEN, None),
            "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"
        );
    }

    fn claim<'a>(signature: Option<&'a str>, expiration: Option<i64>) -> Claim<'a> {
        Claim {
            token: None,
            signature,
            expiration,
            path: "p",
            user: "",
        }
    }

    #[test]
    fn the_rules_are_applied_in_order() {
        let check = |claim: &Claim<'_>| authorize(Some(TOKEN), claim, Operation::Read, 1000);
        assert_eq!(
            authorize(None, &claim(None, None), Operation::Write, 0),
            Ok(())
        );
        assert_eq!(check(&claim(None, None)), Err(Refusal::MissingSignature));
        assert_eq!(
            check(&claim(Some("v1_x"), None)),
            Err(Refusal::InvalidSignature)
        );
        let good = sign("p", Operation::Read, "", TOKEN, None);
        assert_eq!(check(&claim(Some(&good), None)), Ok(()));
        let mut with_token = claim(Some(&good), None);
        with_token.token = Some("wrong");
        assert_eq!(
            check(&with_token),
            Err(Refusal::TokenMismatch),
            "a signature does not help"
        );
        with_token.token = Some(TOKEN);
        with_token.signature = None;
        assert_eq!(check(&with_token), Ok(()));
    }

    #[test]
    fn expirations_are_signed_and_enforced() {
        for (expiration, outcome) in [(999, Err(Refusal::Expired)), (1000, Ok(())), (1001, Ok(()))]
        {
            let good = sign("p", Operation::Read, "", TOKEN, Some(expiration));
            let claim = claim(Some(&good), Some(expiration));
            assert_eq!(
                authorize(Some(TOKEN), &claim, Operation::Read, 1000),
                outcome
            );
        }
        let expired = sign("p", Operation::Read, "", TOKEN, Some(999));
        let moved = claim(Some(&expired), Some(2000));
        assert_eq!(
            authorize(Some(TOKEN), &moved, Operation::Read, 1000),
            Err(Refusal::InvalidSignature)
        );
    }

    proptest! {
        #[test]
        fn a_signature_is_good_for_its_own_request_only(
            path in "[a-z]{1,8}", user in "[a-z]{0,8}", other in "[a-z]{1,8}"
        ) {
            let signature = sign(&path, Operation::Write, &user, TOKEN, None);
            let mut claim =
                Claim { signature: Some(&signature), path: &path, user: &user, ..Claim::default() };
            prop_assert_eq!(authorize(Some(TOKEN), &claim, Operation::Write, 0), Ok(()));
            prop_assert!(authorize(Some(TOKEN), &claim, Operation::Read, 0).is_err());
            if other != path {
                claim.path = &other;
                prop_assert!(authorize(Some(TOKEN), &claim, Operation::Write, 0).is_err());
            }
        }
    }
}
