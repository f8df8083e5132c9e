//! Right by the schema, wrong in what it says: numbers that are not those of the normal reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serde_json::{Map, Value};
use std::collections::BTreeMap;

use super::{Act, Effect, Scene};
use crate::pure::seed;

/// Answers with values that are allowed and wrong.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlausibleButWrong {
    /// Values to set, by JSON pointer; without any, the first number that may be another one is.
    pub set: BTreeMap<String, Value>,
}

impl Effect for PlausibleButWrong {
    const ABOUT: &'static str = "a reply that the schema allows and that is wrong";

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let mut reply = scene.normal.clone();
        let mut value = reply.value().unwrap_or(Value::Object(Map::new()));
        if self.set.is_empty() {
            let factor = 2 + seed::below(scene.rng, 8);
            let mut pointers = Vec::new();
            numbers(&value, String::new(), &mut pointers);
            let changed = pointers.iter().find_map(|pointer| {
                let mut changed = value.clone();
                let place = changed.pointer_mut(pointer)?;
                *place = Value::from(place.as_u64()?.saturating_mul(factor).saturating_add(1));
                ((scene.keeps_schema)(&changed) != Some(false)).then_some(changed)
            });
            value = changed.unwrap_or(value);
        }
        for (pointer, wrong) in &self.set {
            if let Some(place) = value.pointer_mut(pointer) {
                *place = wrong.clone();
            }
        }
        reply.body = value.to_string().into();
        Act::Reply(reply)
    }
}

fn numbers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(at),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| numbers(item, format!("{at}/{i}"), found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            numbers(member, format!("{at}/{}", crate::scenario::yaml::escape(name)), found);
        }),
        _ => {}
    }
}
