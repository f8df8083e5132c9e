//! The sandboxes of a stub.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

/// Files of a sandbox.
pub type Files = HashMap<String, Bytes>;

/// A sandbox.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its metadata, as the create gave it.
    pub metadata: serde_json::Value,
    /// Its files.
    pub files: Files,
    /// Its checkpoints.
    pub checkpoints: HashMap<String, Files>,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it answers nothing.
    pub silent: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct World {
    /// By id, in order of making.
    pub machines: BTreeMap<String, Machine>,
    /// Snapshots by id.
    pub snapshots: HashMap<String, Files>,
    /// Things made so far; ids are made of it.
    pub made: u64,
    /// Sandboxes made so far.
    pub created: u64,
    /// Most at once.
    pub peak: usize,
}

impl World {
    /// Adds a sandbox; gives its id.
    pub fn add(&mut self, machine: Machine) -> String {
        let id = self.id('i');
        self.machines.insert(id.clone(), machine);
        self.created += 1;
        self.peak = self.peak.max(self.machines.len());
        id
    }

    /// A new id, rising.
    pub fn id(&mut self, kind: char) -> String {
        self.made += 1;
        format!("{kind}{:020}", self.made)
    }
}
