//! Sandboxes as the API shows them.

use serde_json::{Value, json};

use crate::world::{Sandbox, World, lock};

/// The constant that old clients append to ids.
pub const CLIENT: &str = "6532622b";

pub fn version(w: &World) -> &'static str {
    if w.on("version-with-v") {
        "v0.6.13"
    } else if w.on("version-too-old") {
        "0.0.9"
    } else {
        "0.6.13"
    }
}

/// Answer to create and connect.
pub fn handle(w: &World, sandbox: &Sandbox) -> Value {
    let mut body = json!({
        "templateID": sandbox.template,
        "sandboxID": sandbox.id,
        "clientID": CLIENT,
        "envdVersion": version(w),
        "domain": if w.on("domain-as-url") { json!("https://sandbox.test/") } else { Value::Null },
    });
    if w.on("create-omits-client-id") {
        body = json!({ "templateID": sandbox.template, "sandboxID": sandbox.id, "envdVersion": version(w) });
    }
    if let Some(token) = &sandbox.token {
        body["envdAccessToken"] = json!(token);
    }
    body["trafficAccessToken"] = json!(sandbox.traffic_token);
    body
}

fn state(w: &World, sandbox: &Sandbox) -> &'static str {
    if sandbox.life.is_paused() && !w.on("paused-state-running") {
        "paused"
    } else if w.on("state-started") {
        "started"
    } else {
        "running"
    }
}

/// An item of a list.
pub fn listed(w: &World, sandbox: &Sandbox) -> Value {
    let end = *lock(&sandbox.end);
    let time = |moment: jiff::Timestamp| {
        if w.on("times-as-unix") {
            json!(moment.as_second())
        } else {
            json!(moment.to_string())
        }
    };
    let mut body = json!({
        "templateID": sandbox.template,
        "sandboxID": sandbox.id,
        "clientID": CLIENT,
        "startedAt": time(sandbox.started),
        "endAt": time(if w.on("end-is-start") { sandbox.started } else { end }),
        "cpuCount": if w.on("cpu-count-as-text") { json!("2") } else { json!(2) },
        "memoryMB": 512,
        "diskSizeMB": 1024,
        "state": state(w, sandbox),
        "envdVersion": version(w),
        "metadata": sandbox.metadata,
    });
    let drop = |body: &mut Value, name: &str| {
        if let Some(members) = body.as_object_mut() {
            members.remove(name);
        }
    };
    if w.on("metadata-dropped") {
        drop(&mut body, "metadata");
    }
    if w.on("list-omits-disk-size") {
        drop(&mut body, "diskSizeMB");
    }
    body
}

/// One sandbox in full.
pub fn detailed(w: &World, sandbox: &Sandbox) -> Value {
    let mut body = listed(w, sandbox);
    body["diskSizeMB"] = json!(1024);
    if let Some(token) = &sandbox.token {
        body["envdAccessToken"] = json!(token);
    }
    body["domain"] = Value::Null;
    body["allowInternetAccess"] = Value::Null;
    body["network"] = crate::network::shown(w, &lock(&sandbox.guest.policy).network);
    body["lifecycle"] = json!({
        "autoResume": sandbox.life.auto_resume(),
        "onTimeout": sandbox.life.on_timeout(w),
    });
    if w.on("lifecycle-on-timeout-stop") {
        body["lifecycle"]["onTimeout"] = json!("stop");
    }
    if w.on("detail-omits-end-at")
        && let Some(members) = body.as_object_mut()
    {
        members.remove("endAt");
    }
    body
}
