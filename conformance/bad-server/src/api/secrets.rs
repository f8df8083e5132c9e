//! Secrets.

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use crate::reply::{empty, error, json as answer};
use crate::volumes::{Secret, is_name};
use crate::world::{World, lock};

/// Answers what is below `/secrets`; none when it is no such route.
pub fn answer_to(w: &World, call: &Call, parts: &[&str]) -> Option<Response> {
    let response = match (call.method.as_str(), parts) {
        ("POST", ["secrets"]) => create(w, call),
        ("GET", ["secrets"]) => list(w),
        ("POST", ["secrets", id]) => update(w, call, id),
        ("DELETE", ["secrets", id]) => delete(w, id),
        _ => return None,
    };
    Some(response)
}

fn shown(w: &World, secret: &Secret) -> Value {
    let mut body = json!({
        "secretID": secret.id, "name": secret.name, "currentVersion": secret.version, "metadata": {},
        "createdAt": secret.created, "updatedAt": secret.created,
    });
    if w.on("secret-value-given-back") {
        body["value"] = json!(secret.value);
    }
    body
}

fn create(w: &World, call: &Call) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let name = body["name"].as_str().unwrap_or("").to_lowercase();
    if !is_name(&name) && !w.on("secret-any-name") {
        return error(w, 400, "the name may have letters, digits, _ and - only");
    }
    let secret = Secret {
        id: w.word("s", 20),
        name,
        version: 1,
        value: body["value"].as_str().unwrap_or("").to_owned(),
        created: jiff::Timestamp::now().to_string(),
    };
    let reply = shown(w, &secret);
    lock(&w.secrets).insert(secret.id.clone(), secret);
    answer(201, &reply)
}

fn list(w: &World) -> Response {
    let secrets = lock(&w.secrets);
    let all: Vec<Value> = secrets
        .values()
        .filter(|_| !w.on("secrets-unlisted"))
        .map(|secret| shown(w, secret))
        .collect();
    answer(200, &Value::Array(all))
}

fn update(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let mut secrets = lock(&w.secrets);
    let Some(secret) = secrets
        .values_mut()
        .find(|one| one.id == id || one.name == id)
    else {
        return error(w, 404, "no such secret");
    };
    if !w.on("secret-version-stays") {
        secret.version += 1;
    }
    if let Some(value) = body["value"].as_str() {
        value.clone_into(&mut secret.value);
    }
    answer(200, &shown(w, secret))
}

fn delete(w: &World, id: &str) -> Response {
    let mut secrets = lock(&w.secrets);
    let found = secrets
        .values()
        .find(|one| one.id == id || one.name == id)
        .map(|one| one.id.clone());
    match found {
        None => error(w, 404, "no such secret"),
        Some(id) => {
            if !w.on("secret-delete-ignored") {
                secrets.remove(&id);
            }
            empty(204)
        }
    }
}
