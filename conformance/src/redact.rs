//! Takes secrets out of what is shown: by value wherever they stand, and by name where a value is not known yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Headers whose values are never shown.
const HEADERS: &[&str] = &[
    "x-api-key",
    "x-access-token",
    "authorization",
    "cookie",
    "set-cookie",
    "e2b-traffic-access-token",
];

/// Members whose values are secrets.
const MEMBERS: &[&str] = &["envdAccessToken", "trafficAccessToken", "token"];

/// Shorter values are not looked for: they would blank half a report.
const SHORTEST: usize = 8;

/// What stands for a secret.
pub const BLANK: &str = "[redacted]";

/// All secrets that a run has met.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl Secrets {
    /// One more.
    pub fn add(&self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(secret.to_owned());
        }
    }

    /// Learns the secrets of a JSON body.
    pub fn learn(&self, body: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            self.learn_value(&value);
        }
    }

    fn learn_value(&self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn_value(item)),
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(text) if MEMBERS.contains(&name.as_str()) => self.add(text),
                        other => self.learn_value(other),
                    }
                }
            }
            _ => {}
        }
    }

    /// A text without the secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Longest first, so that a secret within another leaves no rest of the longer one.
        let mut secrets: Vec<&String> = known.iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), BLANK)
        })
    }

    /// A header's value as it may be shown.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> String {
        if HEADERS
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(name))
        {
            return BLANK.to_owned();
        }
        self.text(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_secret_is_left(secrets in prop::collection::vec("[a-z0-9]{8,20}", 1..5), gap in "[A-Z ]{0,10}") {
            let all = Secrets::default();
            secrets.iter().for_each(|secret| all.add(secret));
            let shown = all.text(&secrets.join(&gap));
            for secret in &secrets {
                prop_assert!(!shown.contains(secret.as_str()), "{} in {}", secret, shown);
            }
        }
    }

    #[test]
    fn tokens_are_learnt_from_bodies() {
        let all = Secrets::default();
        all.learn(br#"[{"sandbox":{"envdAccessToken":"tok-12345678"}}]"#);
        assert_eq!(all.text("a tok-12345678 b"), "a [redacted] b");
        assert_eq!(all.header("X-API-Key", "anything"), BLANK);
    }
}
