//! Runs the steps of a build. Commands are run by the shell of the agent, in a sandbox that nobody lists.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::agent::connect::Failure;
use crate::agent::process::{self, Event};
use crate::agent::user_of;
use crate::life::Life;
use crate::templates::Image;
use crate::tree::{Tree, absolute, clean};
use crate::world::{Plan, Sandbox, World, lock};

/// Largest archive after unpacking.
const MAX_ARCHIVE: u64 = 16 * 1024 * 1024;
/// How often a ready command is tried.
const TRIES: usize = 200;

/// Why a build failed, and at which step.
struct Broken {
    message: String,
    step: String,
}

/// Builds, and notes the end.
pub async fn run(w: Arc<World>, template: String, build: String, body: Value) {
    let ended = built(&w, &template, &build, &body).await;
    let mut templates = lock(&w.templates);
    let Some(build) = templates.build_mut(&template, &build) else {
        return;
    };
    match ended {
        Ok(image) => {
            build.image = Some(image);
            build.status = if w.on("build-status-done") {
                "done"
            } else {
                "ready"
            };
        }
        Err(broken) => {
            build.status = "error";
            build.reason = (!w.on("build-reason-missing"))
                .then(|| json!({ "message": broken.message, "step": broken.step }));
        }
    }
}

fn log(w: &World, template: &str, build: &str, message: &str) {
    let entry = json!({
        "timestamp": jiff::Timestamp::now().to_string(), "message": message, "level": "info",
    });
    if let Some(build) = lock(&w.templates).build_mut(template, build) {
        build.log.push(entry);
    }
}

async fn built(w: &Arc<World>, template: &str, build: &str, body: &Value) -> Result<Image, Broken> {
    let base = |message: &str| Broken {
        message: message.to_owned(),
        step: "base".to_owned(),
    };
    let from = body["fromTemplate"].as_str().unwrap_or("base");
    let mut image = {
        let templates = lock(&w.templates);
        let found = templates.find(from);
        found
            .and_then(|(template, tag)| template.image(&tag))
            .ok_or_else(|| base("no such template"))?
    };
    let mut key = from.to_owned();
    let mut forced = body["force"] == true;
    for (index, step) in body["steps"].as_array().into_iter().flatten().enumerate() {
        let number = (index + 1).to_string();
        let mut plain = step.clone();
        if let Some(members) = plain.as_object_mut() {
            members.remove("force");
        }
        key = format!("{key}\n{plain}");
        forced |= step["force"] == true && !w.on("step-force-ignored");
        log(w, template, build, &format!("step {number}: {plain}"));
        let cached = lock(&w.templates).cache.get(&key).cloned();
        if let Some(cached) = cached.filter(|_| !forced && !w.on("step-cache-off")) {
            image = cached;
            continue;
        }
        image = stepped(w, image, step).await.map_err(|message| Broken {
            message,
            step: number,
        })?;
        lock(&w.templates).cache.insert(key.clone(), image.clone());
    }
    started(w, image, body).await.map_err(|message| Broken {
        message,
        step: "finalize".to_owned(),
    })
}

/// A sandbox that begins with an image and is in no list.
fn hidden(w: &World, image: &Image) -> Arc<Sandbox> {
    let sandbox = Sandbox::new(Plan {
        id: w.word("b", 20),
        template: "build".to_owned(),
        token: None,
        traffic_token: None,
        mask_host: None,
        metadata: json!({}),
        envs: image.envs.clone(),
        timeout: 600,
        life: Life::of_clone(600),
        tree: Arc::new(Mutex::new(Tree::new())),
    });
    image.fill(&sandbox);
    Arc::new(sandbox)
}

async fn stepped(w: &Arc<World>, mut image: Image, step: &Value) -> Result<Image, String> {
    if w.on("step-extra-refused") && step.get("forceUpload").is_some() {
        return Err("unknown member forceUpload".to_owned());
    }
    let args: Vec<&str> = step["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let current = image.user.clone().unwrap_or_else(|| "user".to_owned());
    match (step["type"].as_str().unwrap_or(""), args.as_slice()) {
        ("RUN", _) if w.on("step-run-skipped") => {}
        ("RUN", [command, rest @ ..]) => {
            let user = match rest.first() {
                Some(user) if !user.is_empty() && !w.on("step-run-user-ignored") => *user,
                _ => current.as_str(),
            };
            image = ran(w, image, command, user).await?;
        }
        ("COPY" | "ADD", [from, to, rest @ ..]) => {
            let hash = step["filesHash"].as_str().unwrap_or("");
            let archive = lock(&w.templates).files.get(hash).cloned();
            let archive = archive.ok_or("the files were not uploaded")?;
            let owner = rest
                .first()
                .filter(|owner| !owner.is_empty() && !w.on("step-copy-owner-ignored"));
            let mode = rest
                .get(1)
                .and_then(|mode| u32::from_str_radix(mode, 8).ok())
                .filter(|_| !w.on("step-copy-mode-ignored"));
            let owner = owner.copied().unwrap_or(&current);
            copied(&mut image, &archive, (from, to), owner, mode)?;
        }
        ("WORKDIR", _) if w.on("step-workdir-ignored") => {}
        ("WORKDIR", [path]) => {
            let folder = image.workdir.clone().unwrap_or_else(|| "/".to_owned());
            let path = clean(&absolute(&folder, path));
            let _ = image.tree.make_dir(&path, &current, 0o755);
            image.workdir = Some(path);
        }
        ("USER", _) if w.on("step-user-ignored") => {}
        ("USER", [name]) => {
            if !["root", "user"].contains(name) {
                image.users.push((*name).to_owned());
                let home = format!("/home/{name}");
                let _ = image.tree.make_dir(&home, name, 0o755);
            }
            image.user = Some((*name).to_owned());
        }
        ("ENV" | "ARG", _) if w.on("step-env-ignored") => {}
        ("ENV" | "ARG", pairs) => {
            for pair in pairs.chunks(2) {
                if let [name, value] = pair {
                    image.envs.insert((*name).to_owned(), (*value).to_owned());
                }
            }
        }
        _ if w.on("step-unknown-ignored") => {}
        (other, _) => return Err(format!("there is no step {other}")),
    }
    Ok(image)
}

/// Runs a command and takes over what it left.
async fn ran(w: &Arc<World>, image: Image, command: &str, user: &str) -> Result<Image, String> {
    let sandbox = hidden(w, &image);
    let failed = |why: String| format!("failed to run command '{command}': command failed: {why}");
    match code(w, &sandbox, command, user).await {
        Err(failure) if w.on("step-unknown-user-words") => Err(failure.message),
        Err(failure) => Err(failed(format!("{}: {}", failure.code, failure.message))),
        Ok(0) => {
            let tree = lock(&sandbox.tree).clone();
            Ok(Image { tree, ..image })
        }
        Ok(code) => Err(failed(format!("exit status {code}"))),
    }
}

/// Runs a command to its end.
async fn code(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    command: &str,
    user: &str,
) -> Result<i64, Failure> {
    let who = user_of(w, sandbox, user)
        .ok_or_else(|| Failure::new("unauthenticated", &format!("invalid username: '{user}'")))?;
    let body = json!({ "process": { "cmd": "/bin/bash", "args": ["-l", "-c", command] } });
    let (_, mut events) = process::start(w, sandbox, &who, &body)?;
    loop {
        match events.recv().await {
            Ok(Event::End(end)) => return Ok(end["exitCode"].as_i64().unwrap_or(0)),
            Ok(Event::Data(..)) => {}
            Err(_) => return Ok(-1),
        }
    }
}

fn copied(
    image: &mut Image,
    archive: &[u8],
    (from, to): (&str, &str),
    owner: &str,
    mode: Option<u32>,
) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("the archive is not valid: {error}");
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_ARCHIVE));
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let path = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
        if path != from {
            continue;
        }
        let own = entry.header().mode().unwrap_or(0o644) & 0o7777;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(wrong)?;
        let folder = image.workdir.clone().unwrap_or_else(|| "/".to_owned());
        let to = clean(&absolute(&folder, to));
        image
            .tree
            .write(&to, content, owner)
            .map_err(|error| error.to_string())?;
        if let Some(node) = image.tree.get_mut(&to) {
            node.mode = mode.unwrap_or(own);
        }
        return Ok(());
    }
    Err(format!("{from} is not in the archive"))
}

/// Starts the start command, waits for the ready command, and keeps what is there then.
async fn started(w: &Arc<World>, image: Image, body: &Value) -> Result<Image, String> {
    let Some(start) = body["startCmd"]
        .as_str()
        .filter(|start| !start.is_empty() && !w.on("start-command-skipped"))
        .map(str::to_owned)
    else {
        return Ok(image);
    };
    let user = image.user.clone().unwrap_or_default();
    let sandbox = hidden(w, &image);
    let running = {
        let (w, sandbox, user) = (Arc::clone(w), Arc::clone(&sandbox), user.clone());
        tokio::spawn(async move { code(&w, &sandbox, &start, &user).await })
    };
    let ready = body["readyCmd"].as_str().unwrap_or("");
    if !w.on("ready-command-ignored") {
        let mut is_ready = ready.is_empty();
        for _ in 0..TRIES {
            is_ready = is_ready
                || code(w, &sandbox, ready, &user)
                    .await
                    .is_ok_and(|code| code == 0);
            if is_ready {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if !is_ready {
            return Err("it was not ready in time".to_owned());
        }
        // A server that is about to listen goes on to do so in what is restored from a real snapshot.
        for _ in 0..TRIES {
            if !lock(&sandbox.services).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let services = lock(&sandbox.services)
        .iter()
        .map(|(port, service)| (*port, service.loopback))
        .collect();
    let tree = lock(&sandbox.tree).clone();
    running.abort();
    sandbox.die();
    Ok(Image {
        tree,
        services,
        ..image
    })
}

/// The environment that a template gives its sandboxes.
pub fn environment(image: &Image, own: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut envs = image.envs.clone();
    envs.extend(own);
    envs
}
