//! Creates, both versions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use super::shape::handle;
use super::snapshots;
use crate::builder::environment;
use crate::life::{self, Life};
use crate::network::{self as policy, Policy};
use crate::reply::{coded, error, header, json as answer};
use crate::tree::Tree;
use crate::volumes;
use crate::world::{Plan, Sandbox, World, lock};

/// Most seconds that a sandbox may live.
pub const MAX_LIFE: i64 = 86_400;

pub fn v1(w: &Arc<World>, call: &Call) -> Response {
    made(w, call, true).unwrap_or_else(|refusal| refusal)
}

pub fn v2(w: &Arc<World>, call: &Call) -> Response {
    made(w, call, false).unwrap_or_else(|refusal| refusal)
}

fn made(w: &Arc<World>, call: &Call, old: bool) -> Result<Response, Response> {
    let body = call.object(w)?;
    let key =
        header(&call.headers, "idempotency-key").filter(|_| !old && !w.on("idempotency-ignored"));
    if let Some(key) = key
        && let Some((before, reply)) = lock(&w.keys).get(key)
    {
        if *before == body || w.on("idempotency-mismatch-accepted") {
            return Ok(answer(201, reply));
        }
        let word = Some("idempotency_request_mismatch");
        return Err(coded(w, 422, "the key was used with another body", word));
    }
    let refused = checked(w, &body, old);
    if let Err(refusal) = refused {
        if w.on("refused-create-leaks") {
            insert(w, &body, old);
        }
        return Err(refusal);
    }
    let sandbox = insert(w, &body, old);
    let reply = handle(w, &sandbox);
    if let Some(key) = key {
        lock(&w.keys).insert(key.to_owned(), (body, reply.clone()));
    }
    let code = if w.on("create-v2-200") && !old {
        200
    } else {
        201
    };
    Ok(answer(code, &reply))
}

fn insert(w: &Arc<World>, body: &Value, old: bool) -> Arc<Sandbox> {
    let default = match old {
        true if w.on("v1-default-300") => 300,
        true => 15,
        false if w.on("v2-default-15") => 15,
        false => 300,
    };
    let timeout = if w.on("timeout-ignored") {
        300
    } else {
        body["timeout"].as_i64().unwrap_or(default)
    };
    let secure = (!old && !w.on("v2-without-token"))
        || (body["secure"] == true && !w.on("v1-secure-without-token"));
    let token = if w.on("tokens-equal") {
        "t".repeat(32)
    } else {
        w.word("", 32)
    };
    let private = body["network"]["allowPublicTraffic"] == false && !w.on("traffic-token-missing");
    let mut envs: BTreeMap<String, String> = body["envVars"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    if w.on("create-envs-dropped") {
        envs.clear();
    }
    let mut id = w.word("i", 20);
    if w.on("id-in-capitals") {
        id = id.to_uppercase();
    }
    let template = body["templateID"].as_str().unwrap_or("base");
    let from = lock(&w.templates)
        .find(template)
        .and_then(|(found, tag)| Some((found.id.clone(), found.image(&tag)?)));
    if let Some((_, image)) = &from {
        envs = environment(image, envs);
    }
    let snapshot = snapshots::named(w, template);
    let template = snapshot.as_deref().map_or(template, snapshots::template);
    if let Some(snapshot) = &snapshot {
        let mut all = snapshot.image.envs.clone();
        all.extend(envs);
        envs = all;
    }
    let sandbox = Arc::new(Sandbox::new(Plan {
        id,
        template: match &from {
            Some((id, _)) => id.clone(),
            None => template.split(':').next().unwrap_or(template).to_owned(),
        },
        token: secure.then_some(token),
        traffic_token: private.then(|| w.word("tr", 30)),
        mask_host: body["network"]["maskRequestHost"]
            .as_str()
            .map(str::to_owned),
        metadata: if body["metadata"].is_object() {
            body["metadata"].clone()
        } else {
            json!({})
        },
        envs,
        timeout,
        life: Life::read(body, timeout),
        tree: match &snapshot {
            Some(snapshot) => snapshot.image.tree(w),
            None => Arc::new(Mutex::new(Tree::new())),
        },
    }));
    if let Some((_, image)) = &from {
        image.fill(&sandbox);
    }
    volumes::mount(w, &sandbox, &body["volumeMounts"]);
    *lock(&sandbox.guest.policy) = Policy::read(body, &body["network"]);
    if let Some(snapshot) = snapshot {
        if !w.on("snapshot-loses-processes") {
            snapshot.image.revive(w, &sandbox);
        }
        if w.on("snapshot-once") {
            lock(&w.snapshots).retain(|one| one.id != snapshot.id);
        }
    }
    sandbox.log("info", "sandbox created");
    life::boot(w, &sandbox);
    lock(&w.sandboxes).insert(sandbox.id.clone(), Arc::clone(&sandbox));
    sandbox
}

fn checked(w: &World, body: &Value, old: bool) -> Result<(), Response> {
    let refuse = |why: &str| Err(error(w, 400, why));
    template(w, body)?;
    let timeout = &body["timeout"];
    let accepted = w.on("text-timeout-accepted") && timeout.is_string();
    if !timeout.is_null() && !accepted {
        match timeout.as_i64() {
            None => return refuse("timeout is no number of seconds"),
            Some(0) if w.on("zero-timeout-accepted") => {}
            Some(..0) if w.on("negative-timeout-accepted") => {}
            Some(..=0) => return refuse("timeout must be positive"),
            Some(seconds) if seconds > MAX_LIFE && !w.on("huge-timeout-accepted") => {
                return refuse("timeout is too long");
            }
            Some(_) => {}
        }
    }
    let metadata = &body["metadata"];
    if metadata.is_null() && w.on("needs-metadata") {
        return refuse("metadata is required");
    }
    for (name, lax) in [
        ("metadata", "metadata-number-accepted"),
        ("envVars", "env-number-accepted"),
    ] {
        let value = &body[name];
        let texts = value
            .as_object()
            .is_none_or(|members| members.values().all(Value::is_string));
        if (!value.is_null() && !value.is_object()) || (!texts && !w.on(lax)) {
            return refuse("a map must be of strings");
        }
    }
    if w.on("empty-env-vars-refused") && body["envVars"] == json!({}) {
        return refuse("envVars is empty");
    }
    if w.on("null-mcp-refused") && body.get("mcp").is_some_and(Value::is_null) {
        return refuse("mcp is null");
    }
    if body["autoPauseMemory"] == false
        && body["autoPause"] != true
        && !w.on("pause-memory-alone-accepted")
    {
        return refuse("autoPauseMemory needs autoPause");
    }
    if !volumes::known(w, &body["volumeMounts"]) && !w.on("volume-mount-ignored") {
        return refuse("no such volume");
    }
    if body["autoPauseMemory"] == false
        && body["autoResume"]["enabled"] == true
        && !w.on("pause-memory-resume-accepted")
    {
        return refuse("autoResume needs a pause with memory");
    }
    let tokens: Vec<&Value> = body["iam"]["tokens"]
        .as_object()
        .into_iter()
        .flat_map(|tokens| tokens.values())
        .collect();
    if tokens.len() > 5 && !w.on("iam-any-count") {
        return refuse("at most five identity tokens");
    }
    let strange =
        |token: &&Value| !token["tokenType"].is_null() && token["tokenType"] != "JWT-SVID";
    if tokens.iter().any(strange) && !w.on("iam-any-type") {
        return refuse("tokenType is JWT-SVID");
    }
    network(w, body, old)
}

fn template(w: &World, body: &Value) -> Result<(), Response> {
    let Some(template) = body["templateID"].as_str() else {
        if w.on("template-optional") {
            return Ok(());
        }
        return Err(error(w, 400, "templateID is required"));
    };
    if w.on("tag-refused") && template.contains(':') {
        return Err(error(w, 404, "no such template"));
    }
    let built = lock(&w.templates)
        .find(template)
        .is_some_and(|(found, tag)| found.image(&tag).is_some());
    match template.trim_end_matches(":default") {
        _ if built => Ok(()),
        _ if snapshots::named(w, template).is_some() => Ok(()),
        _ if w.on("unknown-template-accepted") => Ok(()),
        "" => Err(error(w, 400, "templateID is empty")),
        name if name.contains("//") || name.contains(' ') => {
            let code = if w.on("bad-reference-500") { 500 } else { 400 };
            Err(error(w, code, "templateID is not a reference"))
        }
        _ if w.on("unknown-template-500") => Err(error(w, 500, "internal server error")),
        _ => Err(error(w, 404, "no such template")),
    }
}

fn network(w: &World, body: &Value, old: bool) -> Result<(), Response> {
    let network = &body["network"];
    let texts = |name: &str| -> Vec<String> {
        let items = network[name].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let is_name = |text: &String| {
        text.split('/')
            .next()
            .unwrap_or("")
            .parse::<std::net::IpAddr>()
            .is_err()
    };
    if let Some(why) = policy::refusal(w, network).filter(|why| why.starts_with("rules")) {
        return Err(error(w, 400, why));
    }
    let deny = texts("denyOut");
    if deny.iter().any(is_name) && !w.on("deny-name-accepted") {
        return Err(error(w, 400, "denyOut takes addresses only"));
    }
    let all = deny.iter().any(|text| text == "0.0.0.0/0");
    if texts("allowOut").iter().any(is_name) && !all && !w.on("allow-name-accepted") {
        return Err(error(w, 400, "names in allowOut need denyOut of all"));
    }
    if network["maskRequestHost"]
        .as_str()
        .is_some_and(|host| !host.is_ascii())
        && !w.on("mask-unicode-accepted")
    {
        return Err(error(w, 400, "maskRequestHost is not ASCII"));
    }
    let open = old && body["secure"] != true;
    if open && network["allowPublicTraffic"] == false && !w.on("private-unsecured-accepted") {
        return Err(error(w, 400, "private traffic needs a secured sandbox"));
    }
    Ok(())
}
