//! Snapshots: taking, listing, deleting.

use std::sync::Arc;

use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use super::life::missing;
use crate::image::{Image, Snapshot};
use crate::reply::{decoded, empty, error, json as answer, query, with};
use crate::world::{Sandbox, World, lock};

/// The account's namespace.
const NAMESPACE: &str = "team";

pub fn take(w: &World, call: &Call, id: &str) -> Response {
    let body = match call.object(w) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let found = w.find(id).or_else(|| {
        let any = w.on("snapshot-of-missing-201");
        any.then(|| lock(&w.sandboxes).values().next().map(Arc::clone))
            .flatten()
    });
    let Some(sandbox) = found else {
        return missing(w, id);
    };
    let name = body["name"].as_str().map(|name| name.trim().to_lowercase());
    let fits = |name: &String| {
        name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_:.".contains(&byte)
        })
    };
    if name.as_ref().is_some_and(|name| !fits(name)) && !w.on("snapshot-any-name") {
        return error(
            w,
            400,
            "a name is of letters, digits, hyphens and underscores",
        );
    }
    let snapshot = Snapshot {
        id: format!("{}:default", w.word("s", 16)),
        names: name
            .into_iter()
            .map(|name| format!("{NAMESPACE}/{name}"))
            .collect(),
        sandbox: sandbox.id.clone(),
        image: Image::of(&sandbox),
    };
    let shown = shown(w, &snapshot);
    lock(&w.snapshots).push(Arc::new(snapshot));
    if w.on("snapshot-stops-source") {
        crate::life::pause(w, &sandbox, true);
    }
    answer(if w.on("snapshot-200") { 200 } else { 201 }, &shown)
}

fn shown(w: &World, snapshot: &Snapshot) -> Value {
    if w.on("snapshot-without-names") {
        return json!({ "snapshotID": snapshot.id });
    }
    let names = if w.on("snapshot-name-dropped") {
        &[]
    } else {
        snapshot.names.as_slice()
    };
    json!({ "snapshotID": snapshot.id, "names": names })
}

pub fn list(w: &World, call: &Call) -> Response {
    let mut all = lock(&w.snapshots).clone();
    all.reverse();
    if w.on("snapshot-not-listed") {
        all.pop();
    }
    if let Some(id) = query(&call.query, "sandboxID").filter(|_| !w.on("snapshot-filter-ignored")) {
        all.retain(|one| one.sandbox == id);
    }
    let limit = query(&call.query, "limit").and_then(|limit| limit.parse().ok());
    let limit: usize = limit
        .filter(|_| !w.on("snapshot-limit-ignored"))
        .unwrap_or(100);
    if let Some(token) = query(&call.query, "nextToken").filter(|_| !w.on("snapshot-page-repeats"))
    {
        let at = all.iter().position(|one| one.id == token);
        all.drain(..at.map_or(0, |at| at + 1));
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let items: Vec<Value> = all.iter().map(|one| shown(w, one)).collect();
    let reply = answer(200, &Value::Array(items));
    match all.last() {
        Some(last) if more => with(reply, "x-next-token", &last.id),
        _ => reply,
    }
}

/// The newest snapshot of this id or name.
pub fn named(w: &World, name: &str) -> Option<Arc<Snapshot>> {
    let bare = name.trim_end_matches(":default");
    let all = lock(&w.snapshots);
    let mut fitting = all.iter().filter(|one| {
        let own = one.id.trim_end_matches(":default") == bare;
        let called = one.names.iter().any(|have| {
            (have == name && !w.on("snapshot-namespace-refused"))
                || have
                    .strip_prefix(NAMESPACE)
                    .is_some_and(|have| have == format!("/{name}"))
        });
        own || called
    });
    let found = if w.on("snapshot-name-keeps-first") {
        fitting.next()
    } else {
        fitting.last()
    };
    found
        .filter(|_| !w.on("snapshot-no-template"))
        .map(Arc::clone)
}

/// The bare template id of a snapshot, as its sandboxes carry it.
pub fn template(snapshot: &Snapshot) -> &str {
    snapshot.id.split(':').next().unwrap_or(&snapshot.id)
}

/// Deletes a snapshot; none where the id is of none.
pub fn delete(w: &World, id: &str) -> Option<Response> {
    let id = decoded(id, false);
    let snapshot = named(w, &id)?;
    let used = |one: &Arc<Sandbox>| one.template == template(&snapshot);
    if w.living().iter().any(used) && !w.on("snapshot-delete-used-204") {
        return Some(error(w, 400, "sandboxes of the snapshot are alive"));
    }
    if !w.on("snapshot-delete-ignored") {
        lock(&w.snapshots).retain(|one| one.id != snapshot.id);
    }
    Some(empty(204))
}

/// `DELETE /templates/{id}`.
pub fn delete_template(w: &World, id: &str) -> Response {
    match delete(w, id) {
        Some(reply) => reply,
        None if w.on("snapshot-delete-missing-204") => empty(204),
        None => error(w, 404, "no such template"),
    }
}
