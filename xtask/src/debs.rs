//! Debian packages fetched beside the system's own: no package is installed, the system's apt
//! lists, pins and status stay as they are.
//!
//! ```text
//! <cache>/apt/etc/{sources.list,preferences}   bookworm, -security, -backports (pinned low)
//! <cache>/apt/status                           empty: dependencies resolve from nothing
//! <cache>/apt/{lists,archives}/                fetched lists and packages
//! ```
//!
//! Because the status is empty, [`Archive::closure`] brings *everything* a program needs down to
//! its C library, and an unpacked tree runs the same on any x86-64 Linux: see [`Tree`].
//!
//! The mirror is the one the system's apt uses. On a system that isn't Debian, name one in
//! `SANDBOXD_DEBIAN_MIRROR` (and `SANDBOXD_DEBIAN_SECURITY_MIRROR`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{Ctx, Lock};
use crate::progress::Task;

/// The Debian release that all of our packages come from.
pub const RELEASE: &str = "bookworm";

/// Packages that come from backports; everything else from there ranks below the release.
const FROM_BACKPORTS: &str = "qemu-* seabios ipxe-qemu";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The package archive with state of its own. Holds the lock on that state.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    log: PathBuf,
    _lock: Lock,
}

impl Archive {
    /// Writes the apt configuration and fetches the package lists.
    ///
    /// # Errors
    /// When there is no apt, no mirror is known, or the lists can't be fetched.
    pub fn open(ctx: &Ctx, task: &Task) -> Result<Self> {
        let dir = ctx.cache.dir("apt")?;
        let lock = Lock::acquire(&dir.join("lock"))?;
        let archive = Self {
            log: ctx.cache.dir("logs")?.join("apt.log"),
            dir,
            _lock: lock,
        };
        for sub in ["etc", "none", "lists/partial", "archives/partial"] {
            fs::create_dir_all(archive.dir.join(sub))?;
        }
        fs::write(archive.dir.join("status"), "")?;
        fs::write(archive.dir.join("etc/sources.list"), sources(&mirrors()?))?;
        fs::write(archive.dir.join("etc/preferences"), preferences())?;
        fs::write(&archive.log, "")?;
        task.message("fetching package lists");
        task.run(archive.apt("apt-get").args(["-q", "update"]), &archive.log)
            .context("could not fetch Debian's package lists")?;
        Ok(archive)
    }

    /// The newest version of `package`, as apt writes it.
    ///
    /// # Errors
    /// When the archive has no such package.
    pub fn version(&self, package: &str) -> Result<String> {
        let shown = self.query(&["show", "--no-all-versions", package])?;
        shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .map(str::to_owned)
            .with_context(|| format!("Debian {RELEASE} has no package {package}"))
    }

    /// The first package that `package` (a meta package) depends on.
    ///
    /// # Errors
    /// When it depends on none.
    pub fn target(&self, package: &str) -> Result<String> {
        self.query(&["depends", package])?
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .with_context(|| format!("Debian {RELEASE}'s {package} names no other package"))
    }

    /// Fetches one package, without what it depends on, and gives its file.
    ///
    /// # Errors
    /// When there is none or it can't be fetched.
    pub fn download(&self, package: &str, task: &Task) -> Result<PathBuf> {
        task.message(format!("fetching {package}"));
        let into = tempfile::Builder::new()
            .prefix("one-")
            .tempdir_in(&self.dir)?;
        let mut apt = self.apt("apt-get");
        task.run(
            apt.args(["-q", "download", package])
                .current_dir(into.path()),
            &self.log,
        )?;
        let deb = single(into.path())?;
        let kept = self
            .dir
            .join("archives")
            .join(deb.file_name().unwrap_or_default());
        fs::rename(&deb, &kept)?;
        Ok(kept)
    }

    /// Fetches `packages` with everything they depend on, and gives the files.
    ///
    /// # Errors
    /// When they can't be resolved or fetched.
    pub fn closure(&self, packages: &[&str], task: &Task) -> Result<Vec<PathBuf>> {
        task.message(format!("fetching {}", packages.join(", ")));
        let into = tempfile::Builder::new()
            .prefix("set-")
            .tempdir_in(&self.dir)?;
        fs::create_dir(into.path().join("partial"))?;
        let mut apt = self.apt("apt-get");
        apt.arg("-o")
            .arg(option("Dir::Cache::archives", into.path()));
        apt.args([
            "-q",
            "-y",
            "--download-only",
            "--no-install-recommends",
            "install",
        ]);
        task.run(apt.args(packages), &self.log)?;
        // The folder goes with this function; its files move where the next run finds them.
        let mut debs = Vec::new();
        for entry in fs::read_dir(into.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "deb") {
                let kept = self
                    .dir
                    .join("archives")
                    .join(path.file_name().unwrap_or_default());
                fs::rename(&path, &kept)?;
                debs.push(kept);
            }
        }
        debs.sort();
        ensure!(
            !debs.is_empty(),
            "apt fetched no file for {}",
            packages.join(", ")
        );
        Ok(debs)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |sub: &str| self.dir.join(sub);
        for (name, path) in [
            ("Dir::State", self.dir.clone()),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", self.dir.clone()),
            ("Dir::Cache::archives", at("archives")),
            ("Dir::Etc::sourcelist", at("etc/sources.list")),
            ("Dir::Etc::sourceparts", at("none")),
            ("Dir::Etc::preferences", at("etc/preferences")),
            ("Dir::Etc::preferencesparts", at("none")),
        ] {
            command.arg("-o").arg(option(name, &path));
        }
        // Root's cache folder is closed to apt's own download user.
        command.args([
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Languages=none",
        ]);
        command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Get::List-Cleanup=1"]);
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    fn query(&self, args: &[&str]) -> Result<String> {
        let output = self
            .apt("apt-cache")
            .args(args)
            .output()
            .context("could not run apt-cache")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Unpacks package files into `tree`, running none of their scripts.
///
/// # Errors
/// When one can't be unpacked.
pub fn unpack(debs: &[PathBuf], tree: &Path, log: &Path, task: &Task) -> Result<()> {
    fs::create_dir_all(tree)?;
    for deb in debs {
        task.message(format!("unpacking {}", file_name(deb)));
        task.run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(tree), log)?;
    }
    Ok(())
}

/// An unpacked closure, whose programs run on the tree's own loader and libraries.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// Path of a file in the tree.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// A command that runs the tree's `program` (`usr/bin/xz`).
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let words = self.words(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// The words that run the tree's `program`: loader, its library path, name, program.
    #[must_use]
    pub fn words(&self, program: &str) -> Vec<String> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
            .map(|dir| text(self.path(dir)))
            .join(":");
        let loader = text(self.path("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
        let program = self.path(program);
        let name = file_name(&program);
        vec![
            loader,
            "--library-path".into(),
            libraries,
            "--argv0".into(),
            name,
            text(program),
        ]
    }
}

/// Where packages come from: the main and the security archive.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

fn mirrors() -> Result<Mirrors> {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"])
        .output()
        .context(
            "could not run apt-get: the lab host is made of Debian packages, fetched by apt",
        )?;
    let found = pick_mirrors(&String::from_utf8_lossy(&output.stdout));
    let main = var("SANDBOXD_DEBIAN_MIRROR")
        .or_else(|| found.as_ref().map(|m| m.main.clone()))
        .context(
            "apt has no Debian archive among its sources: name one in SANDBOXD_DEBIAN_MIRROR",
        )?;
    let security =
        var("SANDBOXD_DEBIAN_SECURITY_MIRROR").or_else(|| found.and_then(|m| m.security));
    Ok(Mirrors { main, security })
}

/// Finds the archives among apt's sources (`URI SUITE` lines): the release itself if it is
/// there, else any main suite (Debian keeps all releases on one mirror).
fn pick_mirrors(listed: &str) -> Option<Mirrors> {
    let rows: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|l| l.trim().split_once(' '))
        .collect();
    let of = |wanted: &dyn Fn(&str, &str) -> bool| {
        rows.iter()
            .find(|(uri, suite)| wanted(uri, suite))
            .map(|(uri, _)| (*uri).to_owned())
    };
    let debian = |uri: &str| uri.trim_end_matches('/').ends_with("/debian");
    let main = of(&|_, suite| suite == RELEASE)
        .or_else(|| of(&|uri, suite| debian(uri) && !suite.contains(['-', '/'])))?;
    let security = of(&|_, suite| suite == format!("{RELEASE}-security"))
        .or_else(|| of(&|uri, suite| uri.contains("debian") && suite.ends_with("-security")));
    Some(Mirrors { main, security })
}

fn sources(mirrors: &Mirrors) -> String {
    let signed = if Path::new(KEYRING).exists() {
        format!("[signed-by={KEYRING} arch=amd64] ")
    } else {
        "[arch=amd64] ".to_owned()
    };
    let mut lines = format!(
        "deb {signed}{0} {RELEASE} main\ndeb {signed}{0} {RELEASE}-backports main\n",
        mirrors.main
    );
    if let Some(security) = &mirrors.security {
        lines.push_str(&format!("deb {signed}{security} {RELEASE}-security main\n"));
    }
    lines
}

fn preferences() -> String {
    format!(
        "Package: *\nPin: release n={RELEASE}-backports\nPin-Priority: 100\n\n\
         Package: {FROM_BACKPORTS}\nPin: release n={RELEASE}-backports\nPin-Priority: 990\n"
    )
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn single(dir: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(
        files.len() == 1,
        "apt fetched {} files where one was asked for",
        files.len()
    );
    Ok(files.remove(0).path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_the_systems_own() {
        let listed = "http://m.example/debian/ bookworm\nhttp://m.example/debian/ bookworm-updates\n\
                      http://s.example/debian-security/ bookworm-security\n\
                      https://other.example/apt/ stable\n";
        assert_eq!(
            pick_mirrors(listed),
            Some(Mirrors {
                main: "http://m.example/debian/".into(),
                security: Some("http://s.example/debian-security/".into()),
            })
        );
    }

    #[test]
    fn another_debian_release_names_the_same_mirror() {
        let listed = "http://m.example/debian/ trixie-updates\nhttp://m.example/debian/ trixie\n";
        assert_eq!(
            pick_mirrors(listed).unwrap().main,
            "http://m.example/debian/"
        );
    }

    #[test]
    fn no_debian_no_mirror() {
        assert_eq!(pick_mirrors("http://m.example/ubuntu/ noble\n"), None);
        assert_eq!(pick_mirrors(""), None);
    }

    #[test]
    fn sources_name_three_suites() {
        let text = sources(&Mirrors {
            main: "M".into(),
            security: Some("S".into()),
        });
        let suites: Vec<_> = text
            .lines()
            .map(|l| l.rsplit_once("] ").unwrap().1.to_owned())
            .collect();
        assert_eq!(
            suites,
            [
                "M bookworm main",
                "M bookworm-backports main",
                "S bookworm-security main"
            ]
        );
    }

    #[test]
    fn a_trees_program_runs_on_its_own_loader() {
        let words = Tree::new(Path::new("/t")).words("usr/bin/xz");
        assert_eq!(words[0], "/t/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
        assert_eq!(
            words[2],
            "/t/lib/x86_64-linux-gnu:/t/usr/lib/x86_64-linux-gnu"
        );
        assert_eq!(words[3..], ["--argv0", "xz", "/t/usr/bin/xz"]);
    }
}
