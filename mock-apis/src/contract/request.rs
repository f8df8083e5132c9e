//! Is a request what the operation asks for?

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Operation;
use super::document::{Parameter, is_json};
use crate::fault::Reply;

/// The parts of a request that a contract speaks about.
pub struct Parts<'a> {
    /// Path parameters.
    pub path: &'a BTreeMap<String, String>,
    /// Query parameters.
    pub query: &'a [(String, String)],
    /// Headers, names in small letters.
    pub headers: &'a BTreeMap<String, String>,
    /// Body.
    pub body: &'a [u8],
}

/// One wrong field.
struct FieldError {
    pointer: String,
    detail: String,
}

/// `None` when the request is right, else the reply that refuses it: 415 for another media type, 400 for what cannot be read, and for wrong
/// fields 422 where the contract has one and 400 where not.
pub fn check(operation: &Operation, parts: &Parts<'_>) -> Option<Reply> {
    let mut errors = Vec::new();
    for parameter in &operation.parameters {
        check_parameter(parameter, parts, &mut errors);
    }
    if !errors.is_empty() {
        // Parameters are part of the address: 422 speaks of content.
        return Some(refuse(400, "Bad Request", &errors));
    }
    check_body(operation, parts, &mut errors).or_else(|| {
        let status = if operation.statuses.contains(&422) {
            422
        } else {
            400
        };
        let title = if status == 422 {
            "Unprocessable Content"
        } else {
            "Bad Request"
        };
        (!errors.is_empty()).then(|| refuse(status, title, &errors))
    })
}

fn refuse(status: u16, title: &str, errors: &[FieldError]) -> Reply {
    let list = errors
        .iter()
        .map(|it| json!({"pointer": it.pointer, "detail": it.detail}))
        .collect::<Vec<_>>();
    Reply::problem(status, title, json!({"errors": list}))
}

fn check_parameter(parameter: &Parameter, parts: &Parts<'_>, errors: &mut Vec<FieldError>) {
    let texts: Vec<&str> = match parameter.place.as_str() {
        "path" => parts
            .path
            .get(&parameter.name)
            .map(String::as_str)
            .into_iter()
            .collect(),
        "query" => parts
            .query
            .iter()
            .filter(|(name, _)| *name == parameter.name)
            .map(|(_, text)| text.as_str())
            .collect(),
        _ => parts
            .headers
            .get(&parameter.name.to_ascii_lowercase())
            .map(String::as_str)
            .into_iter()
            .collect(),
    };
    let pointer = format!("{}:{}", parameter.place, parameter.name);
    let Some(first) = texts.first() else {
        if parameter.required {
            errors.push(FieldError {
                pointer,
                detail: "is required".into(),
            });
        }
        return;
    };
    let value = match parameter.kind.as_str() {
        "integer" | "number" | "boolean" => serde_json::from_str(first)
            .ok()
            .filter(|value: &Value| value.is_number() || value.is_boolean())
            .unwrap_or_else(|| json!(first)),
        "array" => json!(texts),
        _ => json!(first),
    };
    if let Err(error) = parameter.schema.validate(&value) {
        errors.push(FieldError {
            pointer,
            detail: error.to_string(),
        });
    }
}

/// A reply for a body that cannot even be looked at; wrong fields go to `errors`.
fn check_body(
    operation: &Operation,
    parts: &Parts<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<Reply> {
    let body = operation.body.as_ref()?;
    if parts.body.is_empty() {
        if body.required {
            errors.push(FieldError {
                pointer: String::new(),
                detail: "a body is required".into(),
            });
        }
        return None;
    }
    let kind = parts.headers.get("content-type").map_or("", String::as_str);
    let kind = kind
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let Some(schema) = body.media.get(&kind) else {
        let accepted = body.media.keys().cloned().collect::<Vec<_>>().join(", ");
        return Some(
            Reply::problem(415, "Unsupported Media Type", Value::Null).with("accept", accepted),
        );
    };
    if !is_json(&kind) {
        return None;
    }
    let value: Value = match serde_json::from_slice(parts.body) {
        Ok(value) => value,
        Err(error) => {
            let error = FieldError {
                pointer: String::new(),
                detail: format!("is no JSON: {error}"),
            };
            return Some(refuse(400, "Bad Request", &[error]));
        }
    };
    // Whoever sends a thousand wrong fields is told of the first hundred.
    for error in schema
        .iter()
        .flat_map(|schema| schema.iter_errors(&value))
        .take(100)
    {
        let detail = error.to_string().chars().take(500).collect();
        errors.push(FieldError {
            pointer: error.instance_path().to_string(),
            detail,
        });
    }
    None
}
