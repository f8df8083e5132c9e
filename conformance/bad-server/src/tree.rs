//! A file system: a map from absolute path to node, and the list of its changes, which watches read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::world::lock;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File(Vec<u8>),
    Link(String),
}

/// One file, folder or link.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: String,
    pub modified: Timestamp,
    pub metadata: BTreeMap<String, String>,
}

/// Why an operation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("no such file or directory")]
    Missing,
    #[error("it is a directory")]
    IsDir,
    #[error("it is not a directory")]
    NotDir,
    #[error("it exists")]
    Exists,
    #[error("no space is left")]
    NoSpace,
    #[error("too many levels of symbolic links")]
    Loop,
}

/// One change, as a watch tells it.
#[derive(Clone, Debug)]
pub struct Change {
    pub path: String,
    /// `CREATE`, `WRITE`, `REMOVE`, `RENAME` or `CHMOD`.
    pub what: &'static str,
    pub at: Instant,
}

/// All nodes.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Other trees below a path: what is read and written there is theirs.
    pub mounts: Vec<(String, Arc<Mutex<Tree>>)>,
    changes: Vec<Change>,
    /// Count of changes.
    told: watch::Sender<usize>,
    /// Folders that hold little: path, and most bytes of a file.
    small: Vec<(String, usize)>,
}

fn node(kind: Kind, mode: u32, owner: &str) -> Node {
    Node {
        kind,
        mode,
        owner: owner.to_owned(),
        modified: Timestamp::now(),
        metadata: BTreeMap::new(),
    }
}

/// The path without `.`, `..` and doubled slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub fn parent(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        self.copied()
    }
}

impl Tree {
    /// Nothing but a root.
    pub fn bare() -> Self {
        Self {
            nodes: BTreeMap::from([("/".to_owned(), node(Kind::Dir, 0o755, "root"))]),
            mounts: Vec::new(),
            changes: Vec::new(),
            told: watch::Sender::new(0),
            small: Vec::new(),
        }
    }

    /// The mounted tree that a path is in, and the path there.
    fn mounted(&self, path: &str) -> Option<(Arc<Mutex<Self>>, String)> {
        self.mounts.iter().find_map(|(at, tree)| {
            let rest = path.strip_prefix(at.as_str())?;
            (rest.starts_with('/')).then(|| (Arc::clone(tree), rest.to_owned()))
        })
    }

    pub fn new() -> Self {
        let mut tree = Self::bare();
        for (path, mode, owner) in [
            ("/", 0o755, "root"),
            ("/tmp", 0o777, "root"),
            ("/root", 0o700, "root"),
            ("/home", 0o755, "root"),
            ("/home/user", 0o755, "user"),
        ] {
            tree.nodes
                .insert(path.to_owned(), node(Kind::Dir, mode, owner));
        }
        tree
    }

    /// The same files for another sandbox; nobody watches them yet.
    pub fn copied(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            mounts: self.mounts.clone(),
            ..Self::new()
        }
    }

    /// All changes, oldest first.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Tells when there are more changes.
    pub fn news(&self) -> watch::Receiver<usize> {
        self.told.subscribe()
    }

    fn tell(&mut self, path: &str, what: &'static str) {
        self.changes.push(Change {
            path: path.to_owned(),
            what,
            at: Instant::now(),
        });
        self.told.send_replace(self.changes.len());
    }

    /// Changes permission bits, if the path is there.
    pub fn chmod(&mut self, path: &str, mode: u32) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.mode = mode;
            self.tell(path, "CHMOD");
        }
    }

    /// Makes a folder hold little.
    pub fn limit(&mut self, folder: &str, bytes: usize) {
        self.small.push((format!("{folder}/"), bytes));
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    /// The path that a last link leads to.
    pub fn resolved(&self, path: &str) -> Result<String, TreeError> {
        let mut path = path.to_owned();
        for _ in 0..10 {
            match self.nodes.get(&path).map(|node| &node.kind) {
                None => return Err(TreeError::Missing),
                Some(Kind::Link(to)) => path = clean(&absolute(&parent(&path), to)),
                Some(_) => return Ok(path),
            }
        }
        Err(TreeError::Loop)
    }

    pub fn make_dir(&mut self, path: &str, owner: &str, mode: u32) -> Result<(), TreeError> {
        match self
            .resolved(path)
            .ok()
            .and_then(|path| self.nodes.get(&path))
            .map(|node| &node.kind)
        {
            Some(Kind::Dir) => return Err(TreeError::Exists),
            Some(_) => return Err(TreeError::NotDir),
            None => {}
        }
        let above = parent(path);
        match self.make_dir(&above, owner, mode) {
            Ok(()) | Err(TreeError::Exists) => {}
            Err(error) => return Err(error),
        }
        self.nodes
            .insert(path.to_owned(), node(Kind::Dir, mode, owner));
        self.tell(path, "CREATE");
        Ok(())
    }

    pub fn link(&mut self, to: &str, path: &str, owner: &str) {
        self.nodes.insert(
            path.to_owned(),
            node(Kind::Link(to.to_owned()), 0o777, owner),
        );
        self.tell(path, "CREATE");
    }

    /// Writes a file as a program does; parents are made.
    pub fn write(&mut self, path: &str, content: Vec<u8>, owner: &str) -> Result<(), TreeError> {
        if let Some((tree, path)) = self.mounted(path) {
            return lock(&tree).write(&path, content, owner);
        }
        self.put(path, content, owner, &["CREATE", "WRITE"])
    }

    /// Writes a file as an upload does, which gives a new file to its owner before it writes.
    pub fn upload(&mut self, path: &str, content: Vec<u8>, owner: &str) -> Result<(), TreeError> {
        if let Some((tree, path)) = self.mounted(path) {
            return lock(&tree).upload(&path, content, owner);
        }
        self.put(path, content, owner, &["CREATE", "CHMOD", "WRITE"])
    }

    fn put(
        &mut self,
        path: &str,
        content: Vec<u8>,
        owner: &str,
        new: &[&'static str],
    ) -> Result<(), TreeError> {
        let path = self.resolved(path).unwrap_or_else(|_| path.to_owned());
        let full = |(folder, most): &(String, usize)| {
            path.starts_with(folder.as_str()) && content.len() > *most
        };
        if self.small.iter().any(full) {
            return Err(TreeError::NoSpace);
        }
        if let Some(have) = self.nodes.get_mut(&path) {
            if have.kind == Kind::Dir {
                return Err(TreeError::IsDir);
            }
            have.kind = Kind::File(content);
            have.modified = Timestamp::now();
            self.tell(&path, "WRITE");
            return Ok(());
        }
        match self.make_dir(&parent(&path), owner, 0o755) {
            Ok(()) | Err(TreeError::Exists) => {}
            Err(error) => return Err(error),
        }
        self.nodes
            .insert(path.clone(), node(Kind::File(content), 0o644, owner));
        for what in new {
            self.tell(&path, what);
        }
        Ok(())
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, TreeError> {
        if let Some((tree, path)) = self.mounted(path) {
            return lock(&tree).read(&path);
        }
        let path = self.resolved(path)?;
        match self.nodes.get(&path).map(|node| &node.kind) {
            Some(Kind::File(content)) => Ok(content.clone()),
            Some(_) => Err(TreeError::IsDir),
            None => Err(TreeError::Missing),
        }
    }

    /// Takes a path with all below it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        let before: Vec<String> = self.nodes.keys().cloned().collect();
        self.nodes
            .retain(|have, _| have != path && !have.starts_with(&below));
        for gone in before.iter().rev() {
            if !self.nodes.contains_key(gone) {
                self.tell(gone, "REMOVE");
            }
        }
    }

    pub fn rename(
        &mut self,
        from: &str,
        to: &str,
        owner: &str,
        keep: bool,
    ) -> Result<(), TreeError> {
        if !self.nodes.contains_key(from) {
            return Err(TreeError::Missing);
        }
        match self.make_dir(&parent(to), owner, 0o755) {
            Ok(()) | Err(TreeError::Exists) => {}
            Err(error) => return Err(error),
        }
        let below = format!("{from}/");
        let moved: Vec<String> = self
            .nodes
            .keys()
            .filter(|have| *have == from || have.starts_with(&below))
            .cloned()
            .collect();
        for path in moved {
            let node = if keep {
                self.nodes.get(&path).cloned()
            } else {
                self.nodes.remove(&path)
            };
            if let Some(node) = node {
                self.nodes
                    .insert(format!("{to}{}", &path[from.len()..]), node);
            }
        }
        self.tell(from, "RENAME");
        self.tell(to, "CREATE");
        Ok(())
    }

    /// Paths below a folder, parents before children, sorted, so many levels deep.
    pub fn below(&self, path: &str, depth: u32) -> Vec<String> {
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let mut found: Vec<(Vec<String>, String)> = self
            .nodes
            .keys()
            .filter_map(|have| {
                let rest = have.strip_prefix(&prefix).filter(|rest| !rest.is_empty())?;
                let parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
                (parts.len() <= usize::try_from(depth).unwrap_or(usize::MAX))
                    .then(|| (parts, have.clone()))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }
}

/// A path as seen from a folder.
pub fn absolute(folder: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    }
}
