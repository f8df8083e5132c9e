//! Templates and builds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use crate::builder;
use crate::reply::{decoded, empty, error, json as answer, query, with};
use crate::templates::{Build, Template};
use crate::world::{World, lock};

/// Answers what is below `/templates`, `/v2/templates` and `/v3/templates`; none when it is no such route.
pub fn answer_to(w: &Arc<World>, call: &Call, parts: &[&str]) -> Option<Response> {
    let parts: Vec<String> = parts.iter().map(|part| decoded(part, false)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let response = match (call.method.as_str(), parts.as_slice()) {
        ("POST", ["v3", "templates"]) => reserve(w, call),
        ("GET", ["templates", id, "files", hash]) => file_link(w, call, id, hash),
        ("POST", ["v2", "templates", id, "builds", build]) => trigger(w, call, id, build),
        ("GET", ["templates", id, "builds", build, "status"]) => status(w, call, id, build),
        ("GET", ["templates", "aliases", alias]) => alias_of(w, call, alias),
        ("POST", ["templates", "tags"]) => tag(w, call),
        ("DELETE", ["templates", "tags"]) => untag(w, call),
        ("GET", ["templates", id, "tags"]) => tags(w, id),
        ("GET", ["templates"]) => list(w),
        ("GET", ["v2", "templates"]) => pages(w, call),
        ("GET", ["templates", id]) => detail(w, id),
        ("PATCH", ["v2", "templates", id]) => publish(w, call, id),
        ("DELETE", ["templates", id]) => return delete(w, id),
        _ => return None,
    };
    Some(response)
}

fn missing(w: &World) -> Response {
    error(w, 404, "no such template")
}

fn reserve(w: &World, call: &Call) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(given) = body["name"].as_str().or_else(|| body["alias"].as_str()) else {
        return error(w, 400, "name is required");
    };
    if given.len() > 128 && !w.on("template-name-unlimited") {
        return error(w, 400, "name is too long");
    }
    let cpus = body["cpuCount"].as_i64().unwrap_or(2);
    let fits = (1..=32).contains(&cpus) && (cpus == 1 || cpus % 2 == 0);
    if !fits && !w.on("template-any-cpu-count") {
        return error(w, 400, "cpuCount must be 1 or even");
    }
    let memory = body["memoryMB"].as_i64().unwrap_or(1_024);
    if (memory < 128 || memory % 2 == 1) && !w.on("template-any-memory") {
        return error(w, 400, "memoryMB must be even and at least 128");
    }
    let (name, inline) = given.split_once(':').unwrap_or((given, ""));
    let mut names: Vec<String> = body["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .chain((!inline.is_empty()).then_some(inline))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        names.push(
            if w.on("template-tag-latest") {
                "latest"
            } else {
                "default"
            }
            .to_owned(),
        );
    }
    let build = uuid(w);
    let mut templates = lock(&w.templates);
    let known = templates.all.values().find(|one| one.is(name));
    let id = known.map_or_else(|| w.word("t", 20), |one| one.id.clone());
    let template = templates.all.entry(id.clone()).or_insert_with(|| Template {
        id: id.clone(),
        name: name.to_owned(),
        public: false,
        created: jiff::Timestamp::now(),
        cpus,
        memory,
        builds: Vec::new(),
        tags: BTreeMap::new(),
    });
    template.builds.push(Build {
        id: build.clone(),
        status: "waiting",
        log: Vec::new(),
        reason: None,
        image: None,
    });
    for tag in &names {
        template.tags.insert(tag.clone(), build.clone());
    }
    let code = if w.on("template-reserve-200") {
        200
    } else {
        202
    };
    let names = json!({
        "templateID": id, "buildID": build, "public": template.public, "names": template.names(),
        "tags": names, "aliases": [template.name],
    });
    answer(code, &names)
}

fn uuid(w: &World) -> String {
    let hex: String = w
        .word("", 32)
        .bytes()
        .map(|byte| char::from(b"0123456789abcdef"[usize::from(byte % 16)]))
        .collect();
    format!(
        "{}-{}-4{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

fn file_link(w: &World, call: &Call, id: &str, hash: &str) -> Response {
    let fits = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !fits && !w.on("any-file-hash") {
        return error(w, 400, "the hash must be 64 hexadecimal digits");
    }
    let mut templates = lock(&w.templates);
    if !templates.all.contains_key(id) {
        return missing(w);
    }
    let present = templates.files.contains_key(hash);
    templates.links.insert(hash.to_owned());
    let host = call
        .headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let mut body = json!({ "present": present });
    if !present && !w.on("file-link-without-url") {
        body["url"] = json!(format!("http://{host}/upload/{hash}"));
    }
    answer(if w.on("file-link-200") { 200 } else { 201 }, &body)
}

/// Takes an archive at the address that a link gave.
pub fn upload(w: &World, hash: &str, body: &[u8]) -> Response {
    let mut templates = lock(&w.templates);
    if !templates.links.contains(hash) {
        return empty(403);
    }
    templates.files.insert(hash.to_owned(), body.to_vec());
    empty(200)
}

fn trigger(w: &Arc<World>, call: &Call, id: &str, build: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let mut templates = lock(&w.templates);
    let Some(found) = templates.build_mut(id, build) else {
        return missing(w);
    };
    if found.status != "waiting" && !w.on("build-triggered-twice") {
        return error(w, 400, "the build was triggered already");
    }
    found.status = "building";
    drop(templates);
    tokio::spawn(builder::run(
        Arc::clone(w),
        id.to_owned(),
        build.to_owned(),
        body,
    ));
    empty(if w.on("build-trigger-200") { 200 } else { 202 })
}

fn status(w: &World, call: &Call, id: &str, build: &str) -> Response {
    let mut templates = lock(&w.templates);
    let Some(found) = templates.build_mut(id, build) else {
        return if w.on("unknown-build-ready") {
            answer(
                200,
                &json!({ "templateID": id, "buildID": build, "status": "ready", "logs": [], "logEntries": [] }),
            )
        } else {
            error(w, 404, "no such build")
        };
    };
    let offset = query(&call.query, "logsOffset")
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|_| !w.on("logs-offset-ignored"))
        .unwrap_or(0);
    let entries: Vec<&Value> = found.log.iter().skip(offset).take(100).collect();
    let mut body = json!({
        "templateID": id, "buildID": build, "status": found.status, "logs": [], "logEntries": entries,
    });
    if let Some(reason) = &found.reason {
        body["reason"] = reason.clone();
    }
    if w.on("status-without-logs")
        && let Some(members) = body.as_object_mut()
    {
        members.remove("logs");
    }
    answer(200, &body)
}

fn alias_of(w: &World, call: &Call, alias: &str) -> Response {
    let cut = w.on("encoded-slash-splits") && call.path.to_lowercase().contains("%2f");
    let templates = lock(&w.templates);
    match templates
        .find(alias)
        .filter(|_| !cut && !w.on("alias-known-404"))
    {
        Some((template, _)) => answer(
            200,
            &json!({ "templateID": if w.on("alias-of-another") { "base" } else { &template.id }, "public": template.public }),
        ),
        None if w.on("alias-unknown-200") => {
            answer(200, &json!({ "templateID": "", "public": false }))
        }
        None => missing(w),
    }
}

fn words(value: &Value) -> Vec<String> {
    let items = value.as_array().cloned().unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn tag(w: &World, call: &Call) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let mut templates = lock(&w.templates);
    let found = templates
        .find(body["target"].as_str().unwrap_or(""))
        .and_then(|(template, tag)| Some((template.id.clone(), template.tags.get(&tag)?.clone())));
    let Some((id, build)) = found else {
        return missing(w);
    };
    let new = words(&body["tags"]);
    if let Some(template) = templates.all.get_mut(&id)
        && !w.on("tags-not-kept")
    {
        for tag in &new {
            template.tags.insert(tag.clone(), build.clone());
        }
    }
    let code = if w.on("tag-200") { 200 } else { 201 };
    answer(code, &json!({ "tags": new, "buildID": build }))
}

fn untag(w: &World, call: &Call) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let gone = words(&body["tags"]);
    if gone.iter().any(|tag| tag == "default") && !w.on("default-tag-removed") {
        return error(w, 400, "the tag default stays");
    }
    let mut templates = lock(&w.templates);
    let found = templates
        .find(body["name"].as_str().unwrap_or(""))
        .map(|(template, _)| template.id.clone());
    let Some(template) = found.and_then(|id| templates.all.get_mut(&id)) else {
        return missing(w);
    };
    if !w.on("untag-ignored") {
        template.tags.retain(|tag, _| !gone.contains(tag));
    }
    empty(204)
}

fn tags(w: &World, id: &str) -> Response {
    let templates = lock(&w.templates);
    let Some((template, _)) = templates.find(id) else {
        return missing(w);
    };
    let created = template.created.to_string();
    let shown: Vec<Value> = template
        .tags
        .iter()
        .map(|(tag, build)| {
            if w.on("tags-as-text") {
                json!(tag)
            } else {
                json!({ "tag": tag, "buildID": build, "createdAt": created })
            }
        })
        .collect();
    answer(200, &Value::Array(shown))
}

fn list(w: &World) -> Response {
    let templates = lock(&w.templates);
    let shown: Vec<Value> = templates.all.values().map(|one| one.listed(w)).collect();
    answer(200, &Value::Array(shown))
}

fn pages(w: &World, call: &Call) -> Response {
    let limit = query(&call.query, "limit")
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|_| !w.on("template-limit-ignored"))
        .unwrap_or(100);
    let after = query(&call.query, "nextToken").unwrap_or_default();
    let templates = lock(&w.templates);
    let rest: Vec<&Template> = templates
        .all
        .values()
        .filter(|one| one.id > after)
        .collect();
    let shown: Vec<Value> = rest.iter().take(limit).map(|one| one.listed(w)).collect();
    let response = answer(200, &Value::Array(shown));
    match rest.get(limit.saturating_sub(1)) {
        Some(last) if rest.len() > limit && !w.on("template-pages-end") => {
            with(response, "x-next-token", &last.id)
        }
        _ => response,
    }
}

fn detail(w: &World, id: &str) -> Response {
    let templates = lock(&w.templates);
    match templates.find(id) {
        Some((template, _)) => answer(200, &template.listed(w)),
        None => missing(w),
    }
}

fn publish(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let mut templates = lock(&w.templates);
    let found = templates.find(id).map(|(template, _)| template.id.clone());
    let Some(template) = found.and_then(|id| templates.all.get_mut(&id)) else {
        return missing(w);
    };
    if let Some(public) = body["public"]
        .as_bool()
        .filter(|_| !w.on("publish-ignored"))
    {
        template.public = public;
    }
    answer(200, &json!({ "names": template.names() }))
}

/// Deletes a template; none where the name is of none, and perhaps of a snapshot.
fn delete(w: &World, id: &str) -> Option<Response> {
    let mut templates = lock(&w.templates);
    let Some(id) = templates.find(id).map(|(template, _)| template.id.clone()) else {
        return w.on("template-delete-missing-204").then(|| empty(204));
    };
    let used = lock(&w.sandboxes).values().any(|one| one.template == id);
    if used && !w.on("used-template-deleted") {
        return Some(error(w, 400, "sandboxes of the template are there"));
    }
    templates.all.remove(&id);
    let code = if w.on("template-delete-200") {
        200
    } else {
        204
    };
    Some(empty(code))
}
