//! The result of some other call: right by the schema, and no value is the one that was asked for where another may stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serde_json::{Map, Value, json};

use super::{Act, Effect, Scene};
use crate::pure::seed;

/// Most values that are changed.
const MOST: usize = 64;

/// Answers with the result of another call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcWrongResult {}

impl Effect for RpcWrongResult {
    const ABOUT: &'static str = "a result that the schema allows and that is another call's; HTTP: as plausible_but_wrong";

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let mut reply = scene.normal.clone();
        let mut value = reply.value().unwrap_or(Value::Object(Map::new()));
        let mut pointers = Vec::new();
        leaves(&value, String::new(), &mut pointers);
        let offset = 1 + seed::below(scene.rng, 9);
        for pointer in pointers.iter().take(MOST) {
            let found = value.pointer(pointer).into_iter().flat_map(|leaf| others(leaf, offset));
            let changed = found.map(|other| {
                let mut changed = value.clone();
                if let Some(place) = changed.pointer_mut(pointer) {
                    *place = other;
                }
                changed
            });
            let right = changed.into_iter().find(|changed| (scene.keeps_schema)(changed) != Some(false));
            value = right.unwrap_or(value);
        }
        reply.body = value.to_string().into();
        Act::Reply(reply)
    }
}

fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| leaves(item, format!("{at}/{i}"), found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            leaves(member, format!("{at}/{}", crate::scenario::yaml::escape(name)), found);
        }),
        Value::Null => {}
        _ => found.push(at),
    }
}

/// Values of the same type that are not this one, the likeliest to be allowed first.
fn others(leaf: &Value, offset: u64) -> Vec<Value> {
    match leaf {
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => match number.as_u64() {
            Some(value) => vec![json!(value.saturating_add(offset)), json!(value.saturating_sub(offset))],
            None => vec![json!(number.as_f64().unwrap_or(0.0) + 1.0)],
        },
        Value::String(text) => vec![json!(rotated(text, offset)), json!(format!("{text}-{offset}"))],
        _ => vec![],
    }
}

/// Each letter and digit replaced by a later one of its kind: as long, and of the same form.
fn rotated(text: &str, offset: u64) -> String {
    let offset = u8::try_from(offset % 9 + 1).unwrap_or(1);
    let turn = |c: char, first: u8, many: u8| char::from(first + (c as u8 - first + offset) % many);
    text.chars()
        .map(|c| match c {
            '0'..='9' => turn(c, b'0', 10),
            'a'..='z' => turn(c, b'a', 26),
            'A'..='Z' => turn(c, b'A', 26),
            other => other,
        })
        .collect()
}
