//! One sandbox: detail, kill, lifetime, connect.

use axum::response::Response;
use jiff::Timestamp;

use super::Call;
use super::create::MAX_LIFE;
use super::shape::{detailed, handle};
use crate::life;
use crate::reply::{empty, error, json};
use crate::world::{World, after, lock};

pub fn missing(w: &World, id: &str) -> Response {
    if w.on("hostile-id-500") && id.len() > 40 {
        return error(w, 500, "internal server error");
    }
    if w.on("missing-410") {
        return error(w, 410, "gone");
    }
    error(
        w,
        404,
        &format!(
            "sandbox {:.40} was not found",
            id.replace(|c: char| !c.is_ascii_alphanumeric(), "?")
        ),
    )
}

pub fn detail(w: &World, id: &str) -> Response {
    match w.find(id) {
        Some(sandbox) => json(200, &detailed(w, &sandbox)),
        None => missing(w, id),
    }
}

pub fn kill(w: &World, id: &str) -> Response {
    let Some(sandbox) = w.find(id) else {
        return if w.on("second-kill-204") {
            empty(204)
        } else {
            missing(w, id)
        };
    };
    if sandbox.life.is_paused() && w.on("paused-kill-404") {
        return missing(w, id);
    }
    if !w.on("killed-still-there") {
        lock(&w.sandboxes).remove(&sandbox.id);
    }
    if !w.on("killed-agent-answers") {
        sandbox.die();
    }
    if w.on("kill-200") {
        json(200, &serde_json::json!({}))
    } else {
        empty(204)
    }
}

pub fn timeout(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return if w.on("timeout-of-missing-204") {
            empty(204)
        } else {
            missing(w, id)
        };
    };
    if let Err(refusal) = life::refused(w, &sandbox, 404) {
        return if w.on("paused-timeout-204") {
            empty(204)
        } else {
            refusal
        };
    }
    let seconds = match body["timeout"].as_i64() {
        Some(0) if w.on("timeout-zero-refused") => {
            return error(w, 400, "timeout must be positive");
        }
        Some(..0) if w.on("set-negative-timeout-accepted") => 0,
        Some(seconds @ 0..) => seconds,
        None if w.on("set-timeout-optional") => 300,
        _ => return error(w, 400, "timeout is no number of seconds"),
    };
    // A life has an end, whatever is asked for.
    let seconds = if w.on("timeout-uncapped") {
        seconds
    } else {
        seconds.min(MAX_LIFE)
    };
    let mut end = lock(&sandbox.end);
    let wanted = if w.on("timeout-adds") {
        after(*end, seconds)
    } else {
        after(Timestamp::now(), seconds)
    };
    if !(w.on("timeout-only-extends") && wanted < *end) {
        *end = wanted;
    }
    if w.on("timeout-200") {
        json(200, &serde_json::json!({}))
    } else {
        empty(204)
    }
}

pub fn refresh(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return if w.on("refresh-of-missing-204") {
            empty(204)
        } else {
            missing(w, id)
        };
    };
    if let Err(refusal) = life::refused(w, &sandbox, 404) {
        return refusal;
    }
    let default = if w.on("refresh-default-hour") {
        3_600
    } else {
        15
    };
    let wanted = after(
        Timestamp::now(),
        body["duration"]
            .as_i64()
            .unwrap_or(default)
            .clamp(15, 3_600),
    );
    let mut end = lock(&sandbox.end);
    if (wanted > *end && !w.on("refresh-never-extends")) || w.on("refresh-shortens") {
        *end = wanted;
    }
    empty(204)
}

pub fn connect(w: &World, call: &Call, id: &str, old: bool) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(sandbox) = w.find(id) else {
        return missing(w, id);
    };
    let seconds = match body["timeout"].as_i64() {
        None if old && !w.on("connect-v1-timeout-optional") => {
            return error(w, 400, "timeout is required");
        }
        None if w.on("connect-needs-timeout") => return error(w, 400, "timeout is required"),
        None => 300,
        Some(..0) if !w.on("connect-negative-accepted") => {
            return error(w, 400, "timeout must be positive");
        }
        Some(seconds) => seconds,
    };
    sandbox.life.connect();
    if sandbox.life.is_paused() {
        life::resume(w, &sandbox, seconds);
        let mut reply = handle(w, &sandbox);
        if w.on("resume-new-token") {
            reply["envdAccessToken"] = serde_json::json!(w.word("", 32));
        }
        return json(if w.on("resume-200") { 200 } else { 201 }, &reply);
    }
    let mut end = lock(&sandbox.end);
    let wanted = after(Timestamp::now(), seconds);
    if (wanted > *end && !w.on("connect-never-extends")) || w.on("connect-shortens") {
        *end = wanted;
    } else if w.on("connect-rounds-end") {
        *end = Timestamp::from_second(end.as_second()).unwrap_or(*end);
    }
    drop(end);
    let mut reply = handle(w, &sandbox);
    if w.on("connect-new-token") {
        reply["envdAccessToken"] = serde_json::json!(w.word("", 32));
    }
    json(
        if w.on("connect-running-201") {
            201
        } else {
            200
        },
        &reply,
    )
}
