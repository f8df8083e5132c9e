//! Pause, and the old resume.

use axum::response::Response;

use super::Call;
use super::life::missing;
use super::shape::handle;
use crate::life;
use crate::reply::{empty, error, json};
use crate::world::World;

pub fn pause(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return if w.on("pause-of-missing-204") {
            empty(204)
        } else {
            missing(w, id)
        };
    };
    if sandbox.life.is_paused() {
        return if w.on("pause-twice-204") {
            empty(204)
        } else {
            error(w, 409, "the sandbox is paused")
        };
    }
    life::pause(w, &sandbox, body["memory"] != false);
    if w.on("pause-200") {
        json(200, &serde_json::json!({}))
    } else {
        empty(204)
    }
}

pub fn resume(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return missing(w, id);
    };
    if !sandbox.life.is_paused() && !w.on("resume-running-201") {
        return error(w, 409, "the sandbox runs");
    }
    life::resume(w, &sandbox, body["timeout"].as_i64().unwrap_or(15));
    json(201, &handle(w, &sandbox))
}
