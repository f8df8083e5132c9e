//! `recipe.toml`: what an image is made of, as data.
//!
//! ```text
//! from = "base"  ──or──  [debian]      where the tree starts: another image, or Debian packages
//! files/                               copied over it, owned by root
//! [python]                             wheels, exactly as locked
//! customize.sh                         run inside, without network
//! [machine] [session]                  become template.json
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// One image's recipe.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Format of the recipe; 1.
    pub schema: u32,
    /// The template's id, and the name of the recipe's folder.
    pub template_id: String,
    /// Names that clients may use for it, the id among them.
    pub aliases: Vec<String>,
    /// The image this one adds to.
    pub from: Option<String>,
    /// The packages of an image that starts from Debian.
    pub debian: Option<Debian>,
    /// The wheels to install.
    pub python: Option<Python>,
    /// The machine's default size.
    pub machine: Machine,
    /// What commands start with.
    pub session: Session,
}

/// The start from Debian packages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Debian's code name for the release.
    pub suite: String,
    /// Packages on top of Debian's `minbase`.
    pub packages: Vec<Package>,
}

/// One Debian package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the archive.
    pub name: String,
    /// What in a sandbox needs it.
    pub reason: String,
}

/// Wheels for the system's Python.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// Lock file beside the recipe: every wheel with version and hash.
    pub requirements: String,
    /// Import packages whose `tests` folders are left out.
    pub drop_tests_of: Vec<String>,
}

/// The machine's default size.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Writable disk, MiB.
    pub disk_mib: u32,
}

/// What commands start with when the client says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// User name.
    pub user: String,
    /// Absolute path.
    pub workdir: String,
    /// Whether the image can run the code interpreter.
    pub code_interpreter: bool,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

/// `template.json`, as the daemon reads it.
#[derive(Debug, Serialize)]
pub struct Template<'a> {
    schema: u32,
    template_id: &'a str,
    aliases: &'a [String],
    rootfs: &'static str,
    vcpus: u32,
    memory_mib: u32,
    disk_mib: u32,
    user: &'a str,
    workdir: &'a str,
    env: &'a BTreeMap<String, String>,
    code_interpreter: bool,
    rootfs_sha256: &'a str,
    recipe_hash: &'a str,
}

impl Recipe {
    /// Reads and checks `<dir>/recipe.toml`.
    ///
    /// # Errors
    /// When it can't be read, has unknown or missing members, or contradicts itself.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("recipe.toml");
        let what = || format!("in the recipe {}", path.display());
        let text = fs::read_to_string(&path).with_context(what)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &name).with_context(what)
    }

    fn parse(text: &str, folder: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text)?;
        ensure!(
            recipe.schema == 1,
            "schema is {}, this builder knows 1",
            recipe.schema
        );
        ensure!(
            recipe.template_id == folder,
            "template_id is '{}', its folder is '{folder}'",
            recipe.template_id
        );
        ensure!(
            recipe.aliases.contains(&recipe.template_id),
            "aliases lacks the template_id itself"
        );
        ensure!(
            recipe.from.is_some() != recipe.debian.is_some(),
            "exactly one of `from` and `[debian]` says where the tree starts"
        );
        if let Some(debian) = &recipe.debian {
            for package in &debian.packages {
                ensure!(
                    !package.reason.is_empty(),
                    "package '{}' has no reason",
                    package.name
                );
                // They are joined with commas for mmdebstrap.
                let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                ensure!(
                    package.name.chars().all(plain),
                    "'{}' is no package name",
                    package.name
                );
            }
        }
        Ok(recipe)
    }

    /// What the daemon needs to know of the finished image.
    pub fn template<'a>(&'a self, rootfs_sha256: &'a str, recipe_hash: &'a str) -> Template<'a> {
        Template {
            schema: 1,
            template_id: &self.template_id,
            aliases: &self.aliases,
            rootfs: super::image::ROOTFS,
            vcpus: self.machine.vcpus,
            memory_mib: self.machine.memory_mib,
            disk_mib: self.machine.disk_mib,
            user: &self.session.user,
            workdir: &self.session.workdir,
            env: &self.session.env,
            code_interpreter: self.session.code_interpreter,
            rootfs_sha256,
            recipe_hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        schema = 1
        template_id = "small"
        aliases = ["small", "s"]
        from = "base"
        [machine]
        vcpus = 1
        memory_mib = 256
        disk_mib = 1024
        [session]
        user = "user"
        workdir = "/home/user"
        code_interpreter = false
        env = { PATH = "/bin" }
    "#;

    #[test]
    fn template_json_is_what_the_daemon_reads() {
        let recipe = Recipe::parse(SMALL, "small").unwrap();
        insta::assert_json_snapshot!(recipe.template("00ff", "abcd"), @r#"
        {
          "schema": 1,
          "template_id": "small",
          "aliases": [
            "small",
            "s"
          ],
          "rootfs": "rootfs.erofs",
          "vcpus": 1,
          "memory_mib": 256,
          "disk_mib": 1024,
          "user": "user",
          "workdir": "/home/user",
          "env": {
            "PATH": "/bin"
          },
          "code_interpreter": false,
          "rootfs_sha256": "00ff",
          "recipe_hash": "abcd"
        }
        "#);
    }

    #[test]
    fn contradictions_are_refused() {
        let error = |text: &str, folder| format!("{:#}", Recipe::parse(text, folder).unwrap_err());
        assert!(error(SMALL, "other").contains("its folder is 'other'"));
        assert!(error(&SMALL.replace(r#"from = "base""#, ""), "small").contains("exactly one"));
        assert!(error(&SMALL.replace("schema = 1", "schema = 2"), "small").contains("knows 1"));
        assert!(
            error(&SMALL.replace("[machine]", "[machine]\ndisks = 2"), "small").contains("disks")
        );
        let debian = "[debian]\nsuite = 'x'\npackages = [{name = 'a,b', reason = 'r'}]";
        let both = SMALL.replace(r#"from = "base""#, "") + debian;
        assert!(error(&both, "small").contains("'a,b' is no package name"));
    }

    #[test]
    fn the_recipes_in_the_tree_are_sound() {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/images");
        for name in super::super::image::names(&images).unwrap() {
            Recipe::load(&images.join(name)).unwrap();
        }
    }
}
