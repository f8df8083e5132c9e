//! Who may call an operation: 401 with a challenge for no or an unknown credential, 403 for one that is not good for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Operation;
use super::document::Scheme;
use crate::fault::Reply;
use crate::scenario::model::Credential;

/// `None` when the call is let in.
pub fn check(
    operation: &Operation,
    credentials: &[Credential],
    headers: &BTreeMap<String, String>,
) -> Option<Reply> {
    if operation.security.is_empty() || operation.security.iter().any(Vec::is_empty) {
        return None;
    }
    let mut known = false;
    for way in &operation.security {
        let shown = way.iter().map(|scheme| {
            let token = shown(scheme, headers)?;
            credentials
                .iter()
                .find(|credential| credential.token == token)
        });
        let Some(shown) = shown.collect::<Option<Vec<_>>>() else {
            continue;
        };
        known = true;
        let good =
            |it: &&Credential| it.operations.is_empty() || it.operations.contains(&operation.id);
        if shown.iter().all(good) {
            return None;
        }
    }
    Some(if known {
        Reply::problem(403, "Forbidden", Value::Null)
    } else {
        Reply::problem(401, "Unauthorized", Value::Null)
            .with("www-authenticate", "Bearer realm=\"mock\"")
    })
}

fn shown<'a>(scheme: &Scheme, headers: &'a BTreeMap<String, String>) -> Option<&'a str> {
    match scheme {
        Scheme::ApiKey(header) => headers.get(header).map(String::as_str),
        Scheme::Bearer => {
            let (kind, token) = headers.get("authorization")?.split_once(' ')?;
            kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }
    }
}
