//! A file system: a map from absolute path to node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

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
    #[error("too many levels of symbolic links")]
    Loop,
}

/// All nodes.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Other trees below a path: what is read and written there is theirs.
    pub mounts: Vec<(String, Arc<Mutex<Tree>>)>,
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

impl Tree {
    /// Nothing but a root.
    pub fn bare() -> Self {
        Self {
            nodes: BTreeMap::from([("/".to_owned(), node(Kind::Dir, 0o755, "root"))]),
            mounts: Vec::new(),
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
        Ok(())
    }

    pub fn link(&mut self, to: &str, path: &str, owner: &str) {
        self.nodes.insert(
            path.to_owned(),
            node(Kind::Link(to.to_owned()), 0o777, owner),
        );
    }

    /// Writes a file; parents are made.
    pub fn write(&mut self, path: &str, content: Vec<u8>, owner: &str) -> Result<(), TreeError> {
        if let Some((tree, path)) = self.mounted(path) {
            return lock(&tree).write(&path, content, owner);
        }
        let path = self.resolved(path).unwrap_or_else(|_| path.to_owned());
        if let Some(have) = self.nodes.get_mut(&path) {
            if have.kind == Kind::Dir {
                return Err(TreeError::IsDir);
            }
            have.kind = Kind::File(content);
            have.modified = Timestamp::now();
            return Ok(());
        }
        match self.make_dir(&parent(&path), owner, 0o755) {
            Ok(()) | Err(TreeError::Exists) => {}
            Err(error) => return Err(error),
        }
        self.nodes
            .insert(path, node(Kind::File(content), 0o644, owner));
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
        self.nodes
            .retain(|have, _| have != path && !have.starts_with(&below));
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
