//! Volumes and secrets. A volume is a tree of its own that sandboxes have below a folder.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::tree::{Kind, Node, Tree};
use crate::world::{Sandbox, World, lock};

/// One volume.
#[derive(Clone, Debug)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub token: String,
    pub tree: Arc<Mutex<Tree>>,
}

/// One secret. Its value is not kept: nothing here uses it.
#[derive(Clone, Debug)]
pub struct Secret {
    pub id: String,
    pub name: String,
    pub version: u64,
    pub value: String,
    pub created: String,
}

/// Whether a name may be one of a volume or secret.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn named(w: &World, mount: &Value) -> Option<(String, Volume)> {
    let volumes = lock(&w.volumes);
    let found = volumes
        .values()
        .find(|volume| mount["name"].as_str() == Some(&volume.name))?;
    Some((mount["path"].as_str()?.to_owned(), found.clone()))
}

/// Whether all mounts of a create are of known volumes.
pub fn known(w: &World, mounts: &Value) -> bool {
    let mut mounts = mounts.as_array().into_iter().flatten();
    mounts.all(|mount| named(w, mount).is_some())
}

/// Gives a sandbox its volumes.
pub fn mount(w: &World, sandbox: &Sandbox, mounts: &Value) {
    if w.on("volumes-not-mounted") {
        return;
    }
    for mount in mounts.as_array().into_iter().flatten() {
        if let Some((path, volume)) = named(w, mount) {
            let tree = if w.on("volumes-copied") {
                Arc::new(Mutex::new(lock(&volume.tree).clone()))
            } else {
                volume.tree
            };
            lock(&sandbox.tree).mounts.push((path, tree));
        }
    }
}

/// A node as the content API shows it.
pub fn stat(w: &World, path: &str, node: &Node) -> Value {
    let (kind, size) = match &node.kind {
        Kind::Dir => ("directory", 0),
        Kind::File(content) => ("file", content.len()),
        Kind::Link(_) => ("symlink", 0),
    };
    let time = node.modified.to_string();
    let mut stat = json!({
        "name": path.rsplit('/').next().unwrap_or(""), "type": kind, "path": path, "size": size,
        "mode": node.mode, "uid": 1_000, "gid": 1_000, "atime": time, "mtime": time, "ctime": time,
    });
    if w.on("volume-stat-without-times")
        && let Some(members) = stat.as_object_mut()
    {
        members.remove("mtime");
    }
    stat
}
