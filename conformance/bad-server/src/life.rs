//! Pausing and resuming: whether a sandbox runs, and what it keeps.
//!
//! ```text
//!  running ── pause {memory: true} ──► paused with memory ── connect, resume, traffic (autoResume) ──► running as it was
//!     │ └──── pause {memory: false} ─► paused with disk ──── connect, resume ──► running, no process, another boot id
//!     └ end of its time ── autoPause ──► paused;  else gone
//! ```

use std::sync::Mutex;

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::network::Policy;
use crate::reply::error;
use crate::tree::Tree;
use crate::world::{Sandbox, World, after, lock};

/// Where a sandbox reads its boot id.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Least seconds that a sandbox lives when traffic has woken it.
const WOKEN: i64 = 300;

/// What a create says of a sandbox's life, and where it stands.
#[derive(Debug, Default)]
pub struct Life {
    timeout: i64,
    auto_pause: bool,
    auto_memory: bool,
    auto_resume: bool,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Since when, and whether with memory.
    paused: Option<(Timestamp, bool)>,
    pauses: u32,
    connected: bool,
    /// How far its clock is behind; only a fault puts it there.
    behind: SignedDuration,
    env_lost: bool,
}

impl Life {
    /// As a create says.
    pub fn read(body: &Value, timeout: i64) -> Self {
        Self {
            timeout,
            auto_pause: body["autoPause"] == true,
            auto_memory: body["autoPauseMemory"] != false,
            auto_resume: body["autoResume"]["enabled"] == true,
            state: Mutex::default(),
        }
    }

    /// The life of a clone: it ends with its time.
    pub fn of_clone(timeout: i64) -> Self {
        Self {
            timeout,
            ..Self::default()
        }
    }

    pub fn is_paused(&self) -> bool {
        lock(&self.state).paused.is_some()
    }

    pub fn auto_resume(&self) -> bool {
        self.auto_resume
    }

    /// What the detail's `lifecycle.onTimeout` says.
    pub fn on_timeout(&self, w: &World) -> &'static str {
        if self.auto_pause && !w.on("lifecycle-always-kill") {
            "pause"
        } else {
            "kill"
        }
    }

    /// A client has connected.
    pub fn connect(&self) {
        lock(&self.state).connected = true;
    }

    /// Now, by the sandbox's clock.
    pub fn clock(&self) -> Timestamp {
        let behind = lock(&self.state).behind;
        Timestamp::now()
            .checked_sub(behind)
            .unwrap_or(Timestamp::MIN)
    }

    pub fn env_lost(&self) -> bool {
        lock(&self.state).env_lost
    }

    /// Whether its time does not count.
    pub fn waits(&self, w: &World) -> bool {
        self.is_paused() && !w.on("paused-expires")
    }

    /// What its end does: pause, with memory or not, or nothing that would save it.
    pub fn at_end(&self, w: &World) -> Option<bool> {
        let forgotten = w.on("connect-loses-auto-pause") && lock(&self.state).connected;
        let pauses = self.auto_pause && !self.is_paused() && !w.on("auto-pause-kills");
        (pauses && !forgotten).then_some(self.auto_memory)
    }
}

/// Gives a sandbox a boot id, as a boot does.
pub fn boot(w: &World, sandbox: &Sandbox) {
    let id = format!("{}\n", w.word("", 32)).into_bytes();
    let _ = lock(&sandbox.tree).write(BOOT_ID, id, "root");
}

/// Pauses a running sandbox.
pub fn pause(w: &World, sandbox: &Sandbox, memory: bool) {
    let now = Timestamp::now();
    let pauses = {
        let mut state = lock(&sandbox.life.state);
        state.paused = Some((now, memory));
        state.pauses += 1;
        state.env_lost |= w.on("pause-loses-env");
        state.pauses
    };
    if !w.on("paused-expires") && !w.on("paused-end-unchanged") {
        *lock(&sandbox.end) = now;
    }
    if w.on("pause-loses-files") || (w.on("second-pause-loses-files") && pauses > 1) {
        let mut tree = Tree::new();
        std::mem::swap(&mut tree, &mut *lock(&sandbox.tree));
    }
    let disk_only = !memory && !w.on("disk-pause-keeps-processes");
    if disk_only || w.on("pause-kills-processes") {
        for process in std::mem::take(&mut *lock(&sandbox.processes)).values() {
            process.signal.send_replace(Some("killed"));
        }
    }
    if disk_only || w.on("pause-closes-sockets") {
        lock(&sandbox.services).clear();
    }
    if (!memory && !w.on("disk-pause-keeps-boot-id")) || w.on("pause-changes-boot-id") {
        boot(w, sandbox);
    }
}

/// Resumes a paused sandbox for so many seconds.
pub fn resume(w: &World, sandbox: &Sandbox, seconds: i64) {
    let now = Timestamp::now();
    let mut state = lock(&sandbox.life.state);
    if let Some((since, _)) = state.paused.take()
        && w.on("clock-stands-still")
    {
        state.behind += now.duration_since(since);
    }
    if w.on("policy-lost-on-pause") {
        *lock(&sandbox.guest.policy) = Policy::default();
    }
    *lock(&sandbox.end) = after(now, seconds);
}

/// What traffic to a sandbox finds.
pub enum Woken {
    /// It runs.
    Runs,
    /// It is paused and stays so.
    Sleeps,
}

/// Wakes a paused sandbox for traffic, if it may be woken.
pub fn wake(w: &World, sandbox: &Sandbox, agent: bool) -> Woken {
    let Some((_, memory)) = lock(&sandbox.life.state).paused else {
        return Woken::Runs;
    };
    let deaf = (agent && w.on("wake-agent-never")) || (!agent && w.on("wake-port-never"));
    if !sandbox.life.auto_resume || !memory || deaf {
        return if w.on("paused-agent-answers") {
            Woken::Runs
        } else {
            Woken::Sleeps
        };
    }
    let seconds = match sandbox.life.timeout {
        _ if w.on("wake-time-fixed") => WOKEN,
        seconds if w.on("wake-time-no-floor") => seconds,
        seconds => seconds.max(WOKEN),
    };
    resume(w, sandbox, seconds);
    if w.on("wake-answers-502") {
        Woken::Sleeps
    } else {
        Woken::Runs
    }
}

/// The refusal of what a paused sandbox cannot do, if it is paused.
pub fn refused(w: &World, sandbox: &Sandbox, code: u16) -> Result<(), Response> {
    if sandbox.life.is_paused() {
        return Err(error(w, code, "the sandbox is paused"));
    }
    Ok(())
}
