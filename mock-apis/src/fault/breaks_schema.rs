//! Valid JSON that breaks the schema: one value is of another type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serde_json::{Value, json};

use super::{Act, Effect, Scene};

/// Answers with JSON that the contract forbids.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreaksSchema {}

impl Effect for BreaksSchema {
    const ABOUT: &'static str = "valid JSON that breaks the schema";

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let mut reply = scene.normal.clone();
        let value = reply.value().unwrap_or(Value::Null);
        let broken = candidates(&value).into_iter().find(|candidate| (scene.keeps_schema)(candidate) != Some(true));
        reply.body = broken.unwrap_or_else(|| other(&value)).to_string().into();
        Act::Reply(reply)
    }
}

/// Each with one member of another type, then with one left out, then another value altogether.
fn candidates(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    if let Value::Object(members) = value {
        for (name, member) in members {
            let mut changed = members.clone();
            changed.insert(name.clone(), other(member));
            all.push(Value::Object(changed));
        }
        for name in members.keys() {
            let mut changed = members.clone();
            changed.remove(name);
            all.push(Value::Object(changed));
        }
    }
    all.push(other(value));
    all
}

fn other(value: &Value) -> Value {
    match value {
        Value::String(_) => json!({"unexpected": true}),
        Value::Object(_) => json!(["unexpected"]),
        _ => json!("unexpected"),
    }
}
