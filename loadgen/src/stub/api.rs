//! The control API of a stub.

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, error, json_of, nothing};
use super::world::{Machine, World};

/// Most sandboxes on one page of a listing.
const PAGE: usize = 100;

/// What a create may come to.
#[derive(Debug, Clone, Copy)]
pub struct Creating {
    /// Whether the new one answers nothing.
    pub silent: bool,
    /// Most at once.
    pub most: Option<usize>,
}

/// Makes a sandbox.
pub fn create(world: &mut World, body: &[u8], creating: Creating) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return error(StatusCode::BAD_REQUEST, "the body is no JSON");
    };
    let Some(template) = body["templateID"].as_str() else {
        return error(StatusCode::BAD_REQUEST, "templateID is missing");
    };
    let files = match world.snapshots.get(template) {
        Some(files) => files.clone(),
        None if ["base", "code-interpreter-v1"].contains(&template) => Default::default(),
        None => return error(StatusCode::NOT_FOUND, "the template was not found"),
    };
    if creating
        .most
        .is_some_and(|most| world.machines.len() >= most)
    {
        return error(StatusCode::TOO_MANY_REQUESTS, "no more sandboxes at once");
    }
    let id = world.add(Machine {
        metadata: body["metadata"].clone(),
        files,
        silent: creating.silent,
        ..Machine::default()
    });
    json_of(StatusCode::CREATED, &described(&id))
}

/// All the other calls.
pub fn call(world: &mut World, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method.as_str(), &parts[..]) {
        ("GET", ["v2", "sandboxes"]) => list(world, query),
        ("GET", ["sandboxes", id]) if world.machines.contains_key(*id) => {
            json_of(StatusCode::OK, &json!({"sandboxID": id, "memoryMB": 1}))
        }
        ("DELETE", ["sandboxes", id]) => match world.machines.remove(*id) {
            Some(_) => nothing(),
            None => error(StatusCode::NOT_FOUND, "the sandbox was not found"),
        },
        ("DELETE", ["templates", id]) => match world.snapshots.remove(*id) {
            Some(_) => nothing(),
            None => error(StatusCode::NOT_FOUND, "the snapshot was not found"),
        },
        (_, ["v2", "sandboxes", id, what] | ["sandboxes", id, what]) => {
            let Some(machine) = world.machines.get_mut(*id) else {
                return error(StatusCode::NOT_FOUND, "the sandbox was not found");
            };
            match *what {
                "pause" if machine.paused => error(StatusCode::CONFLICT, "it is paused already"),
                "pause" => {
                    machine.paused = true;
                    nothing()
                }
                "connect" => {
                    let status = if machine.paused {
                        StatusCode::CREATED
                    } else {
                        StatusCode::OK
                    };
                    machine.paused = false;
                    json_of(status, &described(id))
                }
                "checkpoints" => {
                    let name = body["name"].as_str().unwrap_or("").to_owned();
                    machine
                        .checkpoints
                        .insert(name.clone(), machine.files.clone());
                    json_of(StatusCode::CREATED, &json!({"name": name}))
                }
                "rollback" => {
                    let name = body["checkpoint"].as_str().unwrap_or("");
                    match machine.checkpoints.get(name) {
                        Some(files) => {
                            machine.files = files.clone();
                            nothing()
                        }
                        None => error(StatusCode::NOT_FOUND, "the checkpoint was not found"),
                    }
                }
                "snapshots" => {
                    let files = machine.files.clone();
                    let id = world.id('s');
                    world.snapshots.insert(id.clone(), files);
                    json_of(StatusCode::CREATED, &json!({"snapshotID": id, "names": []}))
                }
                "fork" => {
                    let child = machine.clone();
                    let id = world.add(child);
                    json_of(StatusCode::CREATED, &json!([{"sandbox": described(&id)}]))
                }
                "metrics" => json_of(StatusCode::OK, &json!([{"memUsed": 64 << 20}])),
                _ => error(StatusCode::NOT_FOUND, "no such call"),
            }
        }
        _ => error(StatusCode::NOT_FOUND, "no such call"),
    }
}

fn described(id: &str) -> Value {
    json!({
        "templateID": "base", "sandboxID": id, "clientID": "6532622b", "envdVersion": "0.6.13",
        "envdAccessToken": "stub", "domain": null,
    })
}

fn list(world: &World, query: &str) -> Answer {
    let after = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("nextToken="));
    let rest = world
        .machines
        .iter()
        .filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
    let page: Vec<_> = rest.take(PAGE).collect();
    let last = page.last().map(|(id, _)| id.as_str());
    let more = page.len() == PAGE;
    let listed: Vec<Value> = page
        .iter()
        .map(|(id, machine)| json!({"sandboxID": id, "metadata": machine.metadata, "state": if machine.paused { "paused" } else { "running" }}))
        .collect();
    let mut answer = json_of(StatusCode::OK, &Value::Array(listed));
    if let (true, Some(Ok(token))) = (more, last.map(HeaderValue::from_str)) {
        answer.headers_mut().insert("x-next-token", token);
    }
    answer
}
