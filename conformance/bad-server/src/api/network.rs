//! Updates of a sandbox's network.

use axum::response::Response;
use serde_json::Value;

use super::Call;
use super::life::missing;
use crate::life;
use crate::network::{Policy, refusal};
use crate::reply::{empty, error, json};
use crate::world::{World, lock};

pub fn update(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return if w.on("network-of-missing-204") {
            empty(204)
        } else {
            missing(w, id)
        };
    };
    if let Err(refusal) = life::refused(w, &sandbox, 409)
        && !w.on("network-of-paused-204")
    {
        return refusal;
    }
    if let Some(why) = refusal(w, &body).filter(|_| !w.on("bad-network-204")) {
        return error(w, 400, why);
    }
    let mut policy = lock(&sandbox.guest.policy);
    let mut network = body.clone();
    if w.on("network-update-merges") {
        network = policy.network.clone();
        for (name, value) in body.as_object().into_iter().flatten() {
            network[name] = value.clone();
        }
    }
    *policy = Policy::read(&body, &network);
    if w.on("network-update-200") {
        return json(200, &Value::Null);
    }
    empty(204)
}
