//! Forks of a running sandbox.

use std::sync::Arc;

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use super::life::missing;
use super::shape::handle;
use crate::image::Image;
use crate::life::{self, Life};
use crate::reply::{error, json as answer};
use crate::world::{Plan, Sandbox, World, lock};

/// Most clones of one call.
const MOST: i64 = 100;

pub fn fork(w: &Arc<World>, call: &Call, id: &str) -> Response {
    if call.body.is_empty() && w.on("fork-needs-body") {
        return error(w, 400, "a body is required");
    }
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(parent) = w.find(id) else {
        return if w.on("fork-of-missing-201") {
            answer(201, &json!([]))
        } else {
            missing(w, id)
        };
    };
    if let Err(refusal) = life::refused(w, &parent, 409)
        && !w.on("fork-of-paused-201")
    {
        return refusal;
    }
    let count = match body["count"].as_i64() {
        _ if w.on("fork-count-ignored") => 1,
        None => 1,
        Some(count @ 1..=MOST) => count,
        Some(_) if w.on("fork-any-count") => 1,
        Some(_) => return error(w, 400, "count is from 1 to 100"),
    };
    let timeout = body["timeout"].as_i64().unwrap_or(15);
    let image = Image::of(&parent);
    let entries: Vec<Value> = (0..count)
        .map(|_| json!({ "sandbox": handle(w, &clone(w, &parent, &image, timeout)) }))
        .collect();
    if w.on("fork-stops-parent") {
        life::pause(w, &parent, true);
    }
    let code = if w.on("fork-200") { 200 } else { 201 };
    if w.on("fork-bare-sandboxes") {
        let bare = entries.iter().map(|entry| entry["sandbox"].clone());
        return answer(code, &Value::Array(bare.collect()));
    }
    answer(code, &Value::Array(entries))
}

fn clone(w: &Arc<World>, parent: &Sandbox, image: &Image, timeout: i64) -> Arc<Sandbox> {
    let secure = parent.token.is_some();
    let sandbox = Arc::new(Sandbox::new(Plan {
        id: w.word("i", 20),
        template: parent.template.clone(),
        token: secure.then(|| w.word("", 32)),
        traffic_token: parent.traffic_token.as_ref().map(|_| w.word("tr", 30)),
        mask_host: parent.mask_host.clone(),
        metadata: parent.metadata.clone(),
        envs: image.envs.clone(),
        timeout,
        life: Life::of_clone(timeout),
        tree: if w.on("fork-shares-files") {
            Arc::clone(&parent.tree)
        } else {
            image.tree(w)
        },
    }));
    let policy = lock(&parent.guest.policy).clone();
    *lock(&sandbox.guest.policy) = policy;
    if w.on("forks-draw-alike") {
        sandbox.guest.draws_as(&parent.guest);
    }
    if !w.on("fork-without-memory") {
        image.revive(w, &sandbox);
    }
    lock(&w.sandboxes).insert(sandbox.id.clone(), Arc::clone(&sandbox));
    sandbox
}
