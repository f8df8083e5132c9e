//! A context: variables, and the order of its cells.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::world::{World, lock};

/// One context.
#[derive(Debug)]
pub struct Context {
    pub id: String,
    pub language: String,
    pub cwd: String,
    /// Whether calls without a context use it.
    pub shared: bool,
    pub variables: Mutex<BTreeMap<String, Value>>,
    /// Environment that outlives a call; only a fault writes here.
    pub envs: Mutex<BTreeMap<String, String>>,
    /// What its process draws next: from Python's `random`, and from OpenSSL.
    pub drawn: Mutex<(String, String)>,
    /// Held by the cell that runs.
    pub turn: tokio::sync::Mutex<()>,
    count: AtomicU64,
    dead: AtomicBool,
}

impl Context {
    pub fn new(w: &World, language: &str, cwd: &str, shared: bool) -> Self {
        Self {
            id: w.word("c", 24),
            language: language.to_owned(),
            cwd: cwd.to_owned(),
            shared,
            variables: Mutex::default(),
            envs: Mutex::default(),
            drawn: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            count: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        }
    }

    pub fn wipe(&self) {
        lock(&self.variables).clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Counts a cell.
    pub fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The kernel is gone; a new one takes its place, unless a fault prevents it.
    pub fn die(&self, w: &World) {
        self.wipe();
        self.dead
            .store(w.on("dead-kernel-stays"), Ordering::Relaxed);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub fn shown(&self, w: &World) -> Value {
        if w.on("context-without-cwd") {
            return json!({ "id": self.id, "language": self.language });
        }
        json!({ "id": self.id, "language": self.language, "cwd": self.cwd })
    }
}
