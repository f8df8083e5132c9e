//! Templates: what sandboxes are made from.
//!
//! ```text
//!   <templates>/<folder>/template.json      description, schema 1
//!   <templates>/<folder>/rootfs.erofs       read-only root file system
//! ```
//!
//! Every folder is read at start; a broken description stops the daemon with the file's name, because a template that
//! silently is not there would only be noticed by a client. A client names a template by [`Reference`]; the only tag
//! there is so far is `default`.

mod reference;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::moment::Moment;
pub use reference::{DEFAULT_TAG, Reference};

/// Version of `template.json` that is understood.
const SCHEMA: u32 = 1;

/// Why the templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The templates folder cannot be read.
    #[error(
        "The templates folder {path} cannot be read: {error}. Build templates with `cargo xtask setup` or name another \
         folder with --templates."
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The templates folder holds no template.
    #[error(
        "The templates folder {0} holds no template (a folder with a template.json in it). Build templates with `cargo \
         xtask setup` or name another folder with --templates."
    )]
    Empty(PathBuf),
    /// A description cannot be read.
    #[error("{path} cannot be read: {error}.")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A description does not fit the schema.
    #[error("{path} is not a template description: {error}. Build the template again.")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// A description has values that cannot be used.
    #[error("{path} has values that cannot be used: {what}. Build the template again.")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which and why.
        what: &'static str,
    },
    /// Two templates have the same name.
    #[error("The templates in {first} and {second} are both called `{name}`: remove one of them.")]
    Duplicate {
        /// The name.
        name: String,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// `template.json` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    schema: u32,
    template_id: String,
    #[serde(default)]
    aliases: Vec<String>,
    rootfs: PathBuf,
    vcpus: u8,
    memory_mib: u32,
    disk_mib: u32,
    user: String,
    workdir: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    code_interpreter: bool,
    rootfs_sha256: String,
    recipe_hash: String,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its id (E2B: `templateID`).
    pub id: String,
    /// Other names; the first is the one shown as `alias`.
    pub aliases: Vec<String>,
    /// Root file system, an erofs image.
    pub rootfs: PathBuf,
    /// Virtual processors, 1 to 32.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Size of the writable disk in MiB.
    pub disk_mib: u32,
    /// User that runs processes by default.
    pub user: String,
    /// Folder in which they start.
    pub workdir: String,
    /// Environment of all processes.
    pub env: BTreeMap<String, String>,
    /// Whether the code interpreter is served on port 49999.
    pub code_interpreter: bool,
    /// Identifies the build: changes whenever the recipe or the root file system does.
    pub build_id: uuid::Uuid,
    /// When the image was made.
    pub built_at: Moment,
}

/// All templates.
#[derive(Debug, Default)]
pub struct Templates {
    by_name: HashMap<String, Arc<Template>>,
    in_order: Vec<Arc<Template>>,
}

impl Templates {
    /// Reads every folder below `folder`.
    pub fn load(folder: &Path) -> Result<Self, TemplateError> {
        let unreadable = |error| TemplateError::Folder {
            path: folder.to_owned(),
            error,
        };
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            folders.push(entry.map_err(unreadable)?.path());
        }
        folders.sort();
        let mut templates = Self::default();
        let mut homes: HashMap<String, PathBuf> = HashMap::new();
        for home in folders {
            let file = home.join("template.json");
            if !file.exists() {
                continue;
            }
            let template = read(&file)?;
            for name in std::iter::once(&template.id).chain(&template.aliases) {
                if let Some(first) = homes.insert(name.clone(), home.clone())
                    && first != home
                {
                    return Err(TemplateError::Duplicate {
                        name: name.clone(),
                        first,
                        second: home,
                    });
                }
            }
            templates.add(template);
        }
        if templates.in_order.is_empty() {
            return Err(TemplateError::Empty(folder.to_owned()));
        }
        Ok(templates)
    }

    /// Gives no sandbox more virtual processors than the host has processors: they would wait for one another, each
    /// holding what the other needs.
    #[must_use]
    pub fn with_at_most(mut self, processors: u8) -> Self {
        let mut limited = Self::default();
        for template in self.in_order.drain(..) {
            let mut template = Arc::unwrap_or_clone(template);
            template.vcpus = template.vcpus.min(processors.max(1));
            limited.add(template);
        }
        limited
    }

    /// Adds one template.
    pub fn add(&mut self, template: Template) {
        let template = Arc::new(template);
        for name in std::iter::once(&template.id).chain(&template.aliases) {
            self.by_name.insert(name.clone(), template.clone());
        }
        self.in_order.push(template);
    }

    /// The template that a reference names.
    pub fn resolve(&self, reference: &Reference) -> Option<Arc<Template>> {
        if reference.namespace.is_some()
            || reference.tag.as_deref().unwrap_or(DEFAULT_TAG) != DEFAULT_TAG
        {
            return None;
        }
        self.by_name.get(&reference.name).cloned()
    }

    /// The template with an id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Template>> {
        self.in_order.iter().find(|t| t.id == id).cloned()
    }

    /// All templates, by folder name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.in_order.iter()
    }
}

fn read(file: &Path) -> Result<Template, TemplateError> {
    let unreadable = |error| TemplateError::Read {
        path: file.to_owned(),
        error,
    };
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let description: Description =
        serde_json::from_slice(&bytes).map_err(|error| TemplateError::Parse {
            path: file.to_owned(),
            error,
        })?;
    if let Some(what) = fault(&description) {
        return Err(TemplateError::Invalid {
            path: file.to_owned(),
            what,
        });
    }
    let rootfs = file
        .parent()
        .unwrap_or(Path::new("/"))
        .join(&description.rootfs);
    let meta = std::fs::metadata(&rootfs).map_err(|error| TemplateError::Read {
        path: rootfs.clone(),
        error,
    })?;
    let modified = meta.modified().map_err(unreadable)?;
    let built_at = modified
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|t| i64::try_from(t.as_micros()).ok())
        .unwrap_or(0);
    Ok(Template {
        build_id: build_id(&description),
        id: description.template_id,
        aliases: description.aliases,
        rootfs,
        vcpus: description.vcpus,
        memory_mib: description.memory_mib,
        disk_mib: description.disk_mib,
        user: description.user,
        workdir: description.workdir,
        env: description.env,
        code_interpreter: description.code_interpreter,
        built_at: Moment::from_micros(built_at),
    })
}

fn fault(description: &Description) -> Option<&'static str> {
    let named = |name: &str| Reference::parse(name).is_some_and(|r| r.name == name);
    let Description {
        schema,
        template_id,
        aliases,
        vcpus,
        memory_mib,
        ..
    } = description;
    if *schema != SCHEMA {
        Some("`schema` is not 1")
    } else if !named(template_id) || !aliases.iter().all(|alias| named(alias)) {
        Some("`template_id` and `aliases` may hold lower-case letters, digits, - and _ only")
    } else if !(1..=32).contains(vcpus) {
        Some("`vcpus` is not between 1 and 32")
    } else if !(128..=1 << 20).contains(memory_mib) {
        Some("`memory_mib` is not between 128 and 1048576")
    } else {
        None
    }
}

/// A UUID (version 8, RFC 9562) from the hashes that identify the build.
fn build_id(description: &Description) -> uuid::Uuid {
    let digest = crate::ids::secret_hash(&format!(
        "{}\n{}",
        description.recipe_hash, description.rootfs_sha256
    ));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
pub mod tests;
