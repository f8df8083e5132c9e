//! Processes: starting, listing, input, signals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};

use super::connect::Failure;
use super::shell::{self, Shell};
use super::{User, resolved};
use crate::image::Frozen;
use crate::tree::Kind;
use crate::world::{Sandbox, World, lock};

/// Events that a slow reader may be behind.
const BACKLOG: usize = 65_536;

/// What a process tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes on `stdout`, `stderr` or `pty`.
    Data(&'static str, Vec<u8>),
    /// The end event.
    End(Value),
}

/// One process.
pub struct Process {
    pub pid: u32,
    pub config: Value,
    pub tag: Option<String>,
    pub pty: bool,
    /// Columns and rows.
    pub size: Mutex<(u64, u64)>,
    pub events: broadcast::Sender<Event>,
    pub signal: watch::Sender<Option<&'static str>>,
    input: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    input_enabled: bool,
    who: User,
    /// The start request, and all input since: what a clone does again.
    body: Value,
    given: Mutex<Vec<Vec<u8>>>,
}

impl Process {
    pub fn frozen(&self) -> Frozen {
        Frozen {
            pid: self.pid,
            who: self.who.clone(),
            body: self.body.clone(),
            given: lock(&self.given).clone(),
        }
    }

    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// Environment of all processes.
pub fn globals(w: &World, sandbox: &Sandbox) -> BTreeMap<String, String> {
    let mut envs = sandbox.envs.clone();
    if sandbox.life.env_lost() {
        envs.clear();
    }
    if !w.on("no-sandbox-env") {
        envs.insert("E2B_SANDBOX".to_owned(), "true".to_owned());
    }
    if !w.on("no-sandbox-id-env") {
        envs.insert("E2B_SANDBOX_ID".to_owned(), sandbox.id.clone());
    }
    if !w.on("no-template-id-env") {
        envs.insert("E2B_TEMPLATE_ID".to_owned(), sandbox.template.clone());
    }
    envs
}

fn environment(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    config: &Value,
) -> BTreeMap<String, String> {
    let mut envs = globals(w, sandbox);
    for (name, value) in [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", &who.home),
        ("USER", &who.name),
        ("LOGNAME", &who.name),
    ] {
        envs.insert(name.to_owned(), value.to_owned());
    }
    if w.on("no-path-env") {
        envs.remove("PATH");
    }
    if w.on("no-home-env") {
        envs.remove("HOME");
    }
    if w.on("user-env-root") {
        envs.insert("USER".to_owned(), "root".to_owned());
    }
    let own = config["envs"].as_object().into_iter().flatten();
    let own: BTreeMap<String, String> = own
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    if w.on("envs-leak") {
        lock(&sandbox.leaked).extend(own.clone());
        envs.extend(lock(&sandbox.leaked).clone());
    }
    if w.on("create-env-wins") {
        let mut all = own;
        all.extend(envs);
        return all;
    }
    if !w.on("envs-dropped") {
        envs.extend(own);
    }
    envs
}

fn working_dir(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    config: &Value,
) -> Result<String, Failure> {
    let given = config["cwd"]
        .as_str()
        .filter(|cwd| !cwd.is_empty() && !w.on("cwd-ignored"));
    let cwd = match given {
        None if w.on("default-cwd-root") => "/".to_owned(),
        None => lock(&sandbox.guest.workdir)
            .clone()
            .unwrap_or_else(|| who.home.clone()),
        Some(cwd) => resolved(w, who, cwd),
    };
    let is_dir = lock(&sandbox.tree)
        .get(&cwd)
        .is_some_and(|node| node.kind == Kind::Dir);
    let other = given.is_some_and(|cwd| cwd.starts_with('~')) && w.on("other-tilde-accepted");
    if is_dir || other || w.on("missing-cwd-accepted") {
        return Ok(cwd);
    }
    let named = if w.on("missing-cwd-unnamed") {
        ""
    } else {
        cwd.as_str()
    };
    Err(Failure::new(
        "invalid_argument",
        &format!("cwd '{named}' does not exist"),
    ))
}

/// Starts what a start request says.
pub fn start(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    who: &User,
    body: &Value,
) -> Result<(Arc<Process>, broadcast::Receiver<Event>), Failure> {
    sandbox.log("info", "process started");
    begun(w, sandbox, who, body, sandbox.pid())
}

/// Does a process of a clone again.
pub fn revive(w: &Arc<World>, sandbox: &Arc<Sandbox>, frozen: &Frozen) {
    let begun = begun(w, sandbox, &frozen.who, &frozen.body, frozen.pid);
    if let Ok((process, _)) = begun
        && let Some(sender) = lock(&process.input).as_ref()
    {
        lock(&process.given).clone_from(&frozen.given);
        for bytes in &frozen.given {
            let _ = sender.send(bytes.clone());
        }
    }
}

fn begun(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    who: &User,
    body: &Value,
    pid: u32,
) -> Result<(Arc<Process>, broadcast::Receiver<Event>), Failure> {
    let config = body["process"].clone();
    let cmd = config["cmd"].as_str().unwrap_or("").to_owned();
    let bare = !cmd.contains('/') && w.on("bare-name-refused");
    if (bare || !shell::known(&cmd)) && !w.on("missing-binary-starts") {
        return Err(Failure::new(
            "invalid_argument",
            &format!("{cmd}: no such file or directory"),
        ));
    }
    let cwd = working_dir(w, sandbox, who, &config)?;
    let args: Vec<String> = config["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let pty = body["pty"].is_object();
    let enabled = match body["stdin"].as_bool() {
        _ if pty => true,
        Some(false) => w.on("stdin-false-ignored"),
        None => !w.on("stdin-absent-closed"),
        Some(true) => true,
    };
    let (input, output) = mpsc::unbounded_channel();
    let size = |name: &str| {
        body["pty"]["size"][name]
            .as_u64()
            .filter(|_| !w.on("pty-size-ignored"))
    };
    let (events, receiver) = broadcast::channel(BACKLOG);
    let process = Arc::new(Process {
        pid,
        config: config.clone(),
        tag: body["tag"]
            .as_str()
            .map(str::to_owned)
            .filter(|_| !w.on("tag-ignored")),
        pty,
        size: Mutex::new((size("cols").unwrap_or(80), size("rows").unwrap_or(24))),
        events,
        signal: watch::Sender::new(None),
        input: Mutex::new(enabled.then_some(input)),
        input_enabled: enabled,
        who: who.clone(),
        body: body.clone(),
        given: Mutex::default(),
    });
    lock(&sandbox.processes).insert(process.pid, Arc::clone(&process));
    let envs = environment(w, sandbox, who, &config);
    let shell = Shell::new(
        Arc::clone(w),
        Arc::clone(sandbox),
        Arc::clone(&process),
        who.clone(),
        envs,
        cwd,
        output,
    );
    tokio::spawn(lived(
        Arc::clone(w),
        Arc::clone(sandbox),
        Arc::clone(&process),
        shell,
        cmd,
        args,
    ));
    Ok((process, receiver))
}

/// A process from its first instruction to its end event.
async fn lived(
    w: Arc<World>,
    sandbox: Arc<Sandbox>,
    process: Arc<Process>,
    mut shell: Shell,
    cmd: String,
    args: Vec<String>,
) {
    let mut signals = process.signal.subscribe();
    let killed = async {
        let signal = signals
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|signal| *signal);
        signal.unwrap_or("killed")
    };
    let end = tokio::select! {
        code = shell.program(&cmd, &args) => exited(&w, code),
        signal = killed => by_signal(&w, signal),
        () = sandbox.death() => by_signal(&w, "killed"),
    };
    drop(shell);
    if w.on("list-keeps-ended") {
        let (late, sandbox) = (process.pid, Arc::clone(&sandbox));
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_secs(20)).await;
            lock(&sandbox.processes).remove(&late);
        });
    } else {
        lock(&sandbox.processes).remove(&process.pid);
    }
    lock(&sandbox.ended).insert(process.pid, end.clone());
    process.tell(Event::End(end));
}

fn exited(w: &World, code: i32) -> Value {
    let code = if w.on("exit-code-lost") { 0 } else { code };
    let status = if w.on("end-without-status") {
        String::new()
    } else {
        format!("exit status {code}")
    };
    let mut end = json!({ "exitCode": code, "exited": !w.on("end-not-exited"), "status": status });
    if code != 0 && !w.on("end-without-error") {
        end["error"] = json!(status);
    }
    end
}

fn by_signal(w: &World, signal: &str) -> Value {
    if w.on("killed-looks-exited") {
        return json!({ "exitCode": 0, "exited": true, "status": "exit status 0" });
    }
    let status = format!("signal: {signal}");
    json!({ "exitCode": -1, "exited": false, "status": status, "error": status })
}

/// The process that a selector names.
pub fn selected(sandbox: &Sandbox, body: &Value) -> Result<Arc<Process>, Failure> {
    let selector = &body["process"];
    let all = lock(&sandbox.processes);
    let found = match (selector["pid"].as_u64(), selector["tag"].as_str()) {
        (Some(pid), _) => all.values().find(|one| u64::from(one.pid) == pid),
        (None, Some(tag)) => all.values().find(|one| one.tag.as_deref() == Some(tag)),
        (None, None) => return Err(Failure::new("invalid_argument", "no process is selected")),
    };
    found
        .map(Arc::clone)
        .ok_or_else(|| Failure::new("not_found", "no such process"))
}

/// Gives input to a process.
pub fn input(w: &World, process: &Process, input: &Value) -> Result<(), Failure> {
    use base64::Engine as _;
    let text = input["pty"]
        .as_str()
        .or_else(|| input["stdin"].as_str())
        .unwrap_or("");
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| Failure::new("invalid_argument", "the input is not base64"))?;
    if !process.input_enabled && !w.on("input-when-closed-200") {
        return Err(Failure::new(
            "failed_precondition",
            "standard input is not enabled",
        ));
    }
    if let Some(sender) = lock(&process.input)
        .as_ref()
        .filter(|_| !w.on("stdin-dropped"))
    {
        lock(&process.given).push(bytes.clone());
        let _ = sender.send(bytes);
    }
    Ok(())
}

pub async fn unary(
    w: &World,
    sandbox: &Sandbox,
    method: &str,
    body: &Value,
) -> Result<Value, Failure> {
    match method {
        "List" => Ok(list(w, sandbox)),
        "SendInput" => {
            input(w, &*selected(sandbox, body)?, &body["input"])?;
            Ok(json!({}))
        }
        "CloseStdin" => {
            let process = selected(sandbox, body)?;
            if process.pty && !w.on("pty-close-stdin-200") {
                return Err(Failure::new(
                    "failed_precondition",
                    "a terminal has no standard input to close",
                ));
            }
            if !w.on("close-stdin-ignored") {
                let had = lock(&process.input).take();
                if had.is_none() && w.on("close-stdin-twice-error") {
                    return Err(Failure::new("internal", "already closed"));
                }
            }
            Ok(json!({}))
        }
        "SendSignal" => {
            let signal = match body["signal"].as_str() {
                Some("SIGNAL_SIGKILL") => "killed",
                Some("SIGNAL_SIGTERM") => "terminated",
                _ if w.on("bad-signal-200") => return Ok(json!({})),
                _ => return Err(Failure::new("invalid_argument", "unknown signal")),
            };
            let process = match selected(sandbox, body) {
                Err(_) if w.on("signal-of-missing-200") => return Ok(json!({})),
                other => other?,
            };
            let deaf = (signal == "killed" && w.on("sigkill-ignored"))
                || (signal == "terminated" && w.on("sigterm-ignored"));
            if !deaf {
                process.signal.send_replace(Some(signal));
                // The process is gone from the list when this answers, as from a real one soon after.
                tokio::task::yield_now().await;
            }
            Ok(json!({}))
        }
        "Update" => {
            let process = selected(sandbox, body)?;
            let size = &body["pty"]["size"];
            if let (Some(cols), Some(rows), false) = (
                size["cols"].as_u64(),
                size["rows"].as_u64(),
                w.on("pty-resize-ignored"),
            ) {
                *lock(&process.size) = (cols, rows);
            }
            Ok(json!({}))
        }
        _ if w.on("unknown-method-200") => Ok(json!({})),
        _ => Err(Failure::new("unimplemented", "no such method")),
    }
}

fn list(w: &World, sandbox: &Sandbox) -> Value {
    let all = lock(&sandbox.processes);
    let shown = all.values().map(|process| {
        let mut item = json!({ "pid": process.pid, "config": process.config });
        if w.on("list-without-config") {
            item = json!({ "pid": process.pid });
        }
        if let Some(tag) = process.tag.as_ref().filter(|_| !w.on("tag-unlisted")) {
            item["tag"] = json!(tag);
        }
        item
    });
    let shown: Vec<Value> = if w.on("list-empty") {
        Vec::new()
    } else {
        shown.collect()
    };
    json!({ "processes": shown })
}
