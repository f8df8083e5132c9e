//! What clones begin with: files and processes of a sandbox at a moment.
//!
//! Memory is had by doing everything again: a process of a clone is started with what its original was started with, gets the
//! input that the original has got, and so stands where the original stood. What it says on the way nobody hears.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::agent::User;
use crate::agent::process;
use crate::tree::Tree;
use crate::world::{Sandbox, World, lock};

/// A process, as it can be done again.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub pid: u32,
    pub who: User,
    /// The start request.
    pub body: Value,
    /// The input so far.
    pub given: Vec<Vec<u8>>,
}

/// A sandbox at a moment.
#[derive(Debug)]
pub struct Image {
    tree: Tree,
    processes: Vec<Frozen>,
    pub envs: BTreeMap<String, String>,
}

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    pub id: String,
    pub names: Vec<String>,
    /// The sandbox that it was taken of.
    pub sandbox: String,
    pub image: Image,
}

impl Image {
    pub fn of(sandbox: &Sandbox) -> Self {
        Self {
            tree: lock(&sandbox.tree).copied(),
            processes: lock(&sandbox.processes)
                .values()
                .map(|process| process.frozen())
                .collect(),
            envs: sandbox.envs.clone(),
        }
    }

    /// The files, for a clone of its own.
    pub fn tree(&self, w: &World) -> Arc<Mutex<Tree>> {
        let tree = if w.on("snapshot-loses-files") {
            Tree::new()
        } else {
            self.tree.copied()
        };
        Arc::new(Mutex::new(tree))
    }

    /// Does the processes again in a clone.
    pub fn revive(&self, w: &Arc<World>, sandbox: &Arc<Sandbox>) {
        for frozen in &self.processes {
            process::revive(w, sandbox, frozen);
        }
    }
}
