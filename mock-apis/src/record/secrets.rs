//! What a call showed to be let in, and its removal from what is written.
//!
//! ```text
//! authorization, proxy-authorization    the value, and what follows the scheme
//! cookie, set-cookie                    the value of each cookie
//! x-api-key and headers named alike     the value
//! query parameters named alike          the value
//! ```
//!
//! Wherever such a value comes back in a path, a query, a header or a body, it is replaced. Other secrets in a body (a reply to a log-in, say)
//! nobody can tell from data: they are written.

use serde_json::Value;

use crate::contract::template;

/// What stands for a secret.
pub const REMOVED: &str = "REMOVED";

/// A shorter value is no secret, and replacing it would tear words apart.
const SHORTEST: usize = 6;

/// The secrets of one call; the longest first, so that none is cut by a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

/// Parts of names of secrets.
const SECRET: [&str; 13] = [
    "authorization",
    "oauth",
    "cookie",
    "token",
    "apikey",
    "secret",
    "password",
    "passwd",
    "signature",
    "session",
    "credential",
    "accesskey",
    "subscriptionkey",
];

/// Parts of names that say of a token that it is a place in a list, or a number of words.
const NO_SECRET: [&str; 5] = ["tokens", "page", "next", "continuation", "cursor"];

/// Whether a header or parameter of this name holds a secret.
pub fn is_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    matches!(
        name.as_str(),
        "auth" | "xauth" | "key" | "sig" | "jwt" | "pwd"
    ) || (has(&SECRET) && !has(&NO_SECRET))
}

impl Secrets {
    /// Those of a call with this query, and headers of request and reply.
    pub fn of<'a>(query: &str, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut found = Vec::new();
        for (name, value) in headers.filter(|(name, _)| is_secret(name)) {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                // What follows the first pair is about the cookie: its host, its age.
                "set-cookie" => found.extend(value.split(';').take(1).filter_map(of_cookie)),
                "cookie" => found.extend(value.split(';').filter_map(of_cookie)),
                _ => {
                    let secret = value.split_once(' ').map_or(value, |(_, rest)| rest);
                    found.extend([value.trim().to_owned(), secret.trim().to_owned()]);
                }
            }
        }
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if is_secret(&template::decode(name)) {
                found.extend([value.to_owned(), template::decode(&value.replace('+', " "))]);
            }
        }
        found.retain(|secret| secret.len() >= SHORTEST && secret != REMOVED);
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Self(found)
    }

    /// `text` without them.
    pub fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, REMOVED)
        })
    }

    /// `value` without them, in names and in values.
    pub fn clean_value(&self, value: Value) -> Value {
        match value {
            _ if self.0.is_empty() => value,
            Value::String(text) => Value::String(self.clean(&text)),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.clean_value(item))
                .collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, member)| (self.clean(&name), self.clean_value(member)))
                .collect(),
            // A number may be a secret as well: a code, a card.
            Value::Number(ref number) if self.0.contains(&number.to_string()) => REMOVED.into(),
            other => other,
        }
    }
}

fn of_cookie(pair: &str) -> Option<String> {
    let (_, value) = pair.split_once('=')?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets() -> Secrets {
        let headers = [
            ("authorization", "Bearer word-of-a-bearer"),
            ("Cookie", "session=cookie-word; theme=dark"),
            (
                "set-cookie",
                "session=newer-cookie-word; Domain=example.com; Max-Age=31536000",
            ),
            ("x-api-key", "key-word-1"),
            ("accept", "application/json"),
        ];
        Secrets::of("q=lisbon&api_key=query%2Dword", headers.into_iter())
    }

    #[test]
    fn what_lets_in_is_removed_wherever_it_comes_back() {
        let secrets = secrets();
        let dirty = "Bearer word-of-a-bearer cookie-word newer-cookie-word key-word-1 query-word query%2Dword lisbon application/json example.com 31536000 dark";
        let clean = secrets.clean(dirty);
        assert!(
            !clean.contains("-word") && !clean.contains("word-"),
            "{clean}"
        );
        assert!(
            clean.ends_with("lisbon application/json example.com 31536000 dark"),
            "{clean}"
        );
        let value = json!({"key-word-1": ["a key-word-1 b", 7, null]});
        assert_eq!(
            secrets.clean_value(value),
            json!({"REMOVED": ["a REMOVED b", 7, null]})
        );
    }

    #[test]
    fn names_of_secrets_are_known_in_any_spelling() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "access_token",
            "apiKey",
            "sig",
            "X-Amz-Signature",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "from",
            "author",
            "content-type",
            "www-authenticate",
            "idempotency-key",
            "pageToken",
            "max_tokens",
            "monkey",
            "design",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_number_that_was_shown_as_a_key_is_removed() {
        let secrets = Secrets::of("", [("x-api-key", "12345678")].into_iter());
        assert_eq!(secrets.clean_value(json!([12_345_678])), json!(["REMOVED"]));
    }
}
