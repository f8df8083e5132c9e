//! Python wheels in an image: fetched outside by this machine's pip, installed inside without network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::recipe::Python;
use crate::cache::remove_tree;
use crate::progress::Task;

/// Where Debian's pip puts what it installs for all users.
pub const SITE: &str = "/usr/local/lib/python3.11/dist-packages";

/// Debian's own distributions.
const DEBIAN_SITE: &str = "/usr/lib/python3/dist-packages";

/// The command, inside, that installs what [`Wheels::download`] fetched. Compiling comes at the
/// end of the image, with the rest.
pub const INSTALL: [&str; 14] = [
    "python3",
    "-m",
    "pip",
    "install",
    "--no-index",
    "--no-deps",
    "--no-compile",
    "--no-cache-dir",
    "--root-user-action=ignore",
    "--disable-pip-version-check",
    "--require-hashes",
    "--find-links=/.build/wheels",
    "-r",
    "/.build/requirements.lock",
];

/// The image's Python, bookworm's: wheels may ask for a newer patch level than it has.
const PYTHON: &str = "--python-version=3.11.2";

/// The newest C library that wheels may ask for: bookworm has 2.36.
const GLIBC_MINOR: u32 = 36;

/// The wheels of one image.
pub struct Wheels<'a> {
    /// The recipe's part on Python.
    pub recipe: &'a Python,
    /// The recipe's folder.
    pub dir: &'a Path,
    /// Where a virtual environment may be made.
    pub scratch: &'a Path,
}

impl Wheels<'_> {
    /// Fetches the locked wheels for the image's Python into `<inside>/wheels`.
    ///
    /// # Errors
    /// When pip can't be had or can't fetch a wheel, or one has another hash than the lock says.
    pub fn download(&self, task: &Task, log: &Path, inside: &Path) -> Result<()> {
        task.message("fetching wheels");
        let lock = self.dir.join(&self.recipe.requirements);
        fs::copy(&lock, inside.join("requirements.lock"))
            .with_context(|| format!("could not read {}", lock.display()))?;
        let venv = self.scratch.join("venv");
        task.run(Command::new("python3").args(["-m", "venv"]).arg(&venv), log)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args(["--only-binary=:all:", "--require-hashes"])
        .args(["--implementation=cp", PYTHON, "--abi=cp311"])
        .args(platforms())
        .arg("-r")
        .arg(&lock)
        .arg("-d")
        .arg(inside.join("wheels"));
        task.run(&mut pip, log)?;
        remove_tree(&venv)
    }

    /// Removes the packages' own test suites.
    ///
    /// # Errors
    /// When a folder can't be listed or removed.
    pub fn drop_tests(&self, tree: &Path) -> Result<()> {
        let site = tree.join(&SITE[1..]);
        for package in &self.recipe.drop_tests_of {
            let folder = site.join(package);
            // A name in the recipe that no wheel brings any more is a slip to be seen.
            drop_tests_in(&folder)
                .with_context(|| format!("could not drop the tests of '{package}'"))?;
        }
        Ok(())
    }
}

fn drop_tests_in(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if entry.file_name() == "tests" {
            remove_tree(&entry.path())?;
        } else {
            drop_tests_in(&entry.path())?;
        }
    }
    Ok(())
}

/// pip takes no "or older" for foreign platforms: each is named.
fn platforms() -> Vec<String> {
    let numbered = (5..=GLIBC_MINOR)
        .rev()
        .map(|minor| format!("manylinux_2_{minor}_x86_64"));
    numbered
        .chain(["manylinux2014_x86_64".into(), "linux_x86_64".into()])
        .map(|platform| format!("--platform={platform}"))
        .collect()
}

/// Names and versions of the Python distributions in a tree, sorted.
///
/// # Errors
/// When a folder can't be listed.
pub fn distributions(tree: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for site in [SITE, DEBIAN_SITE] {
        let folder: PathBuf = tree.join(&site[1..]);
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some((name, version)) = name
                .strip_suffix(".dist-info")
                .and_then(|n| n.rsplit_once('-'))
            {
                found.push(format!("{name} {version}"));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_tests_go() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["p/tests/data", "p/sub/tests", "p/testing", "p/sub/deep"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("p/sub/deep/tests"), "a file").unwrap();
        drop_tests_in(dir.path()).unwrap();
        let is = |path: &str| dir.path().join(path).exists();
        assert!(!is("p/tests") && !is("p/sub/tests"));
        assert!(is("p/testing") && is("p/sub/deep/tests"));
    }

    #[test]
    fn distributions_are_read_from_their_metadata_folders() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join(&SITE[1..]);
        for name in [
            "python_dateutil-2.9.0.dist-info",
            "numpy",
            "numpy-2.4.6.dist-info",
        ] {
            fs::create_dir_all(site.join(name)).unwrap();
        }
        assert_eq!(
            distributions(dir.path()).unwrap(),
            ["numpy 2.4.6", "python_dateutil 2.9.0"]
        );
    }

    #[test]
    fn the_newest_platform_comes_first() {
        let all = platforms();
        assert_eq!(all[0], "--platform=manylinux_2_36_x86_64");
        assert!(all.contains(&"--platform=manylinux_2_5_x86_64".to_owned()));
    }
}
