//! The body is [`crate::egress::options::NetworkUpdate`]; what is kept of it for `GET /sandboxes/{id}` is made here.

use serde_json::{Map, Value};

use crate::egress::options::NetworkUpdate;

/// The network options that a sandbox shows after an update: the new egress lists, and what an update cannot change
/// (`allowPublicTraffic`, `maskRequestHost`) as it was.
pub fn shown(former: Option<&Value>, update: &NetworkUpdate) -> Value {
    let mut shown = Map::new();
    for name in ["allowPublicTraffic", "maskRequestHost"] {
        if let Some(value) = former.and_then(|former| former.get(name)) {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    for (name, list) in [
        ("allowOut", &update.allow_out),
        ("denyOut", &update.deny_out),
    ] {
        if let Some(list) = list {
            shown.insert(name.to_owned(), Value::from(list.clone()));
        }
    }
    Value::Object(shown)
}
