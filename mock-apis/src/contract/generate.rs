//! A value for a schema, drawn from the seed: for replies without an example.
//!
//! Covers what contracts of tools use: types, enum, const, ranges, lengths, the usual formats, allOf, oneOf, anyOf and local `$ref`. What it
//! cannot do (a `pattern`, say) is noticed: the result is validated, and the document refused with the request for an example.

use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::pure::seed;

/// Beyond this depth optional members are left out and lists are as short as they may be.
const SHALLOW: usize = 4;
/// Beyond this depth there is no value: a schema that asks for itself has none.
const DEEPEST: usize = 24;

/// A value for `schema`, a part of the document `root`.
pub fn value(root: &Value, schema: &Value, rng: &mut ChaCha8Rng, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(&super::template::decode(pointer)));
        return target.map_or(Value::Null, |target| value(root, target, rng, depth + 1));
    }
    for fixed in ["const", "example", "default"] {
        if let Some(fixed) = schema.get(fixed) {
            return fixed.clone();
        }
    }
    if let Some(choice) = pick(&schema["examples"], rng).or_else(|| pick(&schema["enum"], rng)) {
        return choice;
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(first) = schema[choice].as_array().and_then(|all| all.first()) {
            return value(root, first, rng, depth + 1);
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut merged = Map::new();
        for part in all.iter().map(|part| value(root, part, rng, depth + 1)) {
            if let Value::Object(members) = part {
                merged.extend(members);
            }
        }
        if let Value::Object(own) = object(root, schema, rng, depth) {
            merged.extend(own);
        }
        return Value::Object(merged);
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        Value::String(kind) => kind,
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    };
    match kind {
        "object" => object(root, schema, rng, depth),
        "array" => {
            let least = schema["minItems"]
                .as_u64()
                .unwrap_or(u64::from(depth < SHALLOW));
            let items = 0..least.min(1000);
            items
                .map(|_| value(root, &schema["items"], rng, depth + 1))
                .collect()
        }
        "integer" => integer(schema, rng),
        "number" => number(schema, rng),
        "boolean" => json!(seed::below(rng, 2) == 1),
        "string" => Value::String(text(schema, rng)),
        _ => Value::Null,
    }
}

fn pick(list: &Value, rng: &mut ChaCha8Rng) -> Option<Value> {
    let list = list.as_array().filter(|list| !list.is_empty())?;
    let chosen = usize::try_from(seed::below(rng, list.len() as u64)).ok()?;
    list.get(chosen).cloned()
}

fn object(root: &Value, schema: &Value, rng: &mut ChaCha8Rng, depth: usize) -> Value {
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it == name))
    };
    let mut members = Map::new();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if required(name) || depth < SHALLOW {
            members.insert(name.clone(), value(root, member, rng, depth + 1));
        }
    }
    Value::Object(members)
}

fn integer(schema: &Value, rng: &mut ChaCha8Rng) -> Value {
    let exclusive =
        |name: &str, by: i64| schema[name].as_i64().map(|value| value.saturating_add(by));
    let least = schema["minimum"]
        .as_i64()
        .or_else(|| exclusive("exclusiveMinimum", 1))
        .unwrap_or(0);
    let most = schema["maximum"]
        .as_i64()
        .or_else(|| exclusive("exclusiveMaximum", -1))
        .unwrap_or(least.saturating_add(1000));
    let step = schema["multipleOf"]
        .as_i64()
        .filter(|step| *step > 0)
        .unwrap_or(1);
    let first = least.div_euclid(step) + i64::from(least.rem_euclid(step) != 0);
    let count = (most.div_euclid(step) - first + 1).max(1);
    let drawn = i64::try_from(seed::below(rng, count.unsigned_abs())).unwrap_or(0);
    json!((first + drawn) * step)
}

fn number(schema: &Value, rng: &mut ChaCha8Rng) -> Value {
    let least = schema["minimum"]
        .as_f64()
        .or(schema["exclusiveMinimum"].as_f64())
        .unwrap_or(0.0);
    let most = schema["maximum"]
        .as_f64()
        .or(schema["exclusiveMaximum"].as_f64())
        .unwrap_or(least + 1000.0);
    // From the middle half: exclusive ends are never met. Two decimals, as prices have, when the range has room for them.
    let drawn = least + (most - least) * (0.25 + 0.5 * seed::unit(rng));
    let rounded = (drawn * 100.0).round() / 100.0;
    json!(if rounded > least && rounded < most {
        rounded
    } else {
        drawn
    })
}

fn text(schema: &Value, rng: &mut ChaCha8Rng) -> String {
    let hex = |rng: &mut ChaCha8Rng, digits: usize| {
        (0..digits)
            .map(|_| format!("{:x}", seed::below(rng, 16)))
            .collect::<String>()
    };
    let (month, day) = (1 + seed::below(rng, 12), 1 + seed::below(rng, 28));
    match schema["format"].as_str() {
        Some("date") => format!("2030-{month:02}-{day:02}"),
        Some("date-time") => format!(
            "2030-{month:02}-{day:02}T{:02}:00:00Z",
            seed::below(rng, 24)
        ),
        Some("time") => format!("{:02}:00:00Z", seed::below(rng, 24)),
        Some("uuid") => format!(
            "{}-{}-4{}-8{}-{}",
            hex(rng, 8),
            hex(rng, 4),
            hex(rng, 3),
            hex(rng, 3),
            hex(rng, 12)
        ),
        Some("email") => format!("{}@example.com", hex(rng, 8)),
        Some("hostname") => format!("{}.example.com", hex(rng, 8)),
        Some("uri") => format!("https://example.com/{}", hex(rng, 8)),
        Some("ipv4") => format!("192.0.2.{}", seed::below(rng, 256)),
        _ => {
            let least = schema["minLength"].as_u64().unwrap_or(0).min(10_000);
            let most = schema["maxLength"]
                .as_u64()
                .unwrap_or(least.max(8))
                .min(10_000);
            let length = most.min(least.max(8));
            (0..length)
                .map(|_| char::from(b'a' + u8::try_from(seed::below(rng, 26)).unwrap_or(0)))
                .collect()
        }
    }
}
