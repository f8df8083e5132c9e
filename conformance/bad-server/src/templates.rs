//! Templates: names, tags, builds, and the image that a build makes.
//!
//! ```text
//!  reserve ──► waiting ──trigger──► building ──► ready   image: files, users, environment, what listens
//!                                        └─────► error   reason: message, step
//! ```

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::tree::Tree;
use crate::world::{Sandbox, World, lock};

/// Slug of the only team; names are `team/name` in full.
pub const TEAM: &str = "team";

/// What a sandbox begins with.
#[derive(Clone, Debug)]
pub struct Image {
    pub tree: Tree,
    pub users: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub envs: BTreeMap<String, String>,
    /// Ports that the start command listens on, and whether only on the loopback address.
    pub services: Vec<(u16, bool)>,
}

impl Image {
    pub fn new() -> Self {
        Self {
            tree: Tree::new(),
            users: Vec::new(),
            user: None,
            workdir: None,
            envs: BTreeMap::new(),
            services: Vec::new(),
        }
    }

    /// Gives a sandbox these files, users and servers.
    pub fn fill(&self, sandbox: &Sandbox) {
        *lock(&sandbox.tree) = self.tree.clone();
        lock(&sandbox.guest.users).clone_from(&self.users);
        lock(&sandbox.guest.user).clone_from(&self.user);
        lock(&sandbox.guest.workdir).clone_from(&self.workdir);
        for (port, loopback) in &self.services {
            let service = crate::service::Service {
                loopback: *loopback,
            };
            lock(&sandbox.services).insert(*port, std::sync::Arc::new(service));
        }
    }
}

/// One build.
#[derive(Clone, Debug)]
pub struct Build {
    pub id: String,
    pub status: &'static str,
    pub log: Vec<Value>,
    pub reason: Option<Value>,
    pub image: Option<Image>,
}

/// One template.
#[derive(Clone, Debug)]
pub struct Template {
    pub id: String,
    pub name: String,
    pub public: bool,
    pub created: Timestamp,
    pub cpus: i64,
    pub memory: i64,
    pub builds: Vec<Build>,
    /// Tags and the builds that they are at.
    pub tags: BTreeMap<String, String>,
}

impl Template {
    pub fn names(&self) -> Vec<String> {
        vec![format!("{TEAM}/{}", self.name)]
    }

    /// Whether it is called so, without tag.
    pub fn is(&self, name: &str) -> bool {
        self.id == name || self.name == name || self.names().iter().any(|own| own == name)
    }

    /// The image of a tag, when its build is ready.
    pub fn image(&self, tag: &str) -> Option<Image> {
        let id = self.tags.get(tag)?;
        self.builds
            .iter()
            .find(|build| build.id == *id)?
            .image
            .clone()
    }

    /// As lists show it.
    pub fn listed(&self, w: &World) -> Value {
        let last = self.builds.last();
        let mut body = json!({
            "templateID": self.id, "buildID": last.map_or("", |build| build.id.as_str()),
            "cpuCount": self.cpus, "memoryMB": self.memory, "diskSizeMB": 1_024, "public": self.public,
            "aliases": [self.name], "names": self.names(),
            "createdAt": self.created.to_string(), "updatedAt": self.created.to_string(),
            "createdBy": null, "lastSpawnedAt": null, "spawnCount": 0, "buildCount": self.builds.len(),
            "envdVersion": "0.6.13", "buildStatus": last.map_or("waiting", |build| build.status),
        });
        if w.on("template-list-without-names")
            && let Some(members) = body.as_object_mut()
        {
            members.remove("names");
        }
        body
    }
}

/// All templates, what was uploaded for them, and the cache of steps.
#[derive(Debug, Default)]
pub struct Templates {
    pub all: BTreeMap<String, Template>,
    /// Archives by the hash that the client gave.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Images by the steps that led to them.
    pub cache: BTreeMap<String, Image>,
    /// Hashes that a link was given for.
    pub links: BTreeSet<String>,
}

impl Templates {
    /// Those that are there from the beginning.
    pub fn new() -> Self {
        let all = [("base", "0"), ("code-interpreter-v1", "1")].map(|(name, digit)| {
            let build = format!("00000000-0000-4000-8000-00000000000{digit}");
            let template = Template {
                id: name.to_owned(),
                name: name.to_owned(),
                public: true,
                created: Timestamp::now(),
                cpus: 2,
                memory: 512,
                builds: vec![Build {
                    id: build.clone(),
                    status: "ready",
                    log: Vec::new(),
                    reason: None,
                    image: Some(Image::new()),
                }],
                tags: BTreeMap::from([("default".to_owned(), build)]),
            };
            (name.to_owned(), template)
        });
        Self {
            all: BTreeMap::from(all),
            ..Self::default()
        }
    }

    /// The template and tag that a reference names.
    pub fn find(&self, reference: &str) -> Option<(&Template, String)> {
        let (name, tag) = reference.split_once(':').unwrap_or((reference, "default"));
        let found = self.all.values().find(|one| one.is(name))?;
        Some((found, tag.to_owned()))
    }

    pub fn build_mut(&mut self, template: &str, build: &str) -> Option<&mut Build> {
        let template = self.all.get_mut(template)?;
        template.builds.iter_mut().find(|one| one.id == build)
    }
}
