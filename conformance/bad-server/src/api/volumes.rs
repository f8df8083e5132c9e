//! Volumes.

use std::sync::{Arc, Mutex};

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use crate::reply::{empty, error, json as answer};
use crate::tree::Tree;
use crate::volumes::{Volume, is_name};
use crate::world::{World, lock};

/// Answers what is below `/volumes`; none when it is no such route.
pub fn answer_to(w: &World, call: &Call, parts: &[&str]) -> Option<Response> {
    let response = match (call.method.as_str(), parts) {
        (_, ["volumes", ..]) if w.on("volumes-missing") => error(w, 404, "there is no such route"),
        ("POST", ["volumes"]) => create(w, call),
        ("GET", ["volumes"]) => list(w),
        ("GET", ["volumes", id]) => detail(w, id),
        ("DELETE", ["volumes", id]) => delete(w, id),
        _ => return None,
    };
    Some(response)
}

fn shown(w: &World, volume: &Volume) -> Value {
    if w.on("volume-without-token") {
        return json!({ "volumeID": volume.id, "name": volume.name });
    }
    json!({ "volumeID": volume.id, "name": volume.name, "token": volume.token })
}

fn missing(w: &World) -> Response {
    let code = if w.on("volume-missing-400") { 400 } else { 404 };
    error(w, code, "no such volume")
}

fn create(w: &World, call: &Call) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let name = body["name"].as_str().unwrap_or("");
    if !is_name(name) && !w.on("volume-any-name") {
        return error(w, 400, "the name may have letters, digits, _ and - only");
    }
    let mut volumes = lock(&w.volumes);
    let twice = volumes.values().any(|volume| volume.name == name);
    if twice && !w.on("volume-name-twice") {
        return error(w, 400, "the name is used already");
    }
    let volume = Volume {
        id: w.word("v", 20),
        name: name.to_owned(),
        token: w.word("vt", 30),
        tree: Arc::new(Mutex::new(Tree::bare())),
    };
    let reply = shown(w, &volume);
    volumes.insert(volume.id.clone(), volume);
    answer(if w.on("volume-create-200") { 200 } else { 201 }, &reply)
}

fn list(w: &World) -> Response {
    let volumes = lock(&w.volumes);
    let shown: Vec<Value> = volumes
        .values()
        .filter(|_| !w.on("volumes-unlisted"))
        .map(|volume| json!({ "volumeID": volume.id, "name": volume.name }))
        .collect();
    answer(200, &Value::Array(shown))
}

fn detail(w: &World, id: &str) -> Response {
    match lock(&w.volumes).get(id) {
        Some(volume) => answer(200, &shown(w, volume)),
        None => missing(w),
    }
}

fn delete(w: &World, id: &str) -> Response {
    let mut volumes = lock(&w.volumes);
    if !volumes.contains_key(id) {
        return missing(w);
    }
    if !w.on("volume-delete-ignored") {
        volumes.remove(id);
    }
    empty(204)
}
