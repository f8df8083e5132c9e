//! The guest kernel: Debian's Linux source, tinyconfig plus `guest/kernel/guest.config`.
//!
//! ```text
//! source → tinyconfig → + fragment → olddefconfig → every line as asked? → vmlinux → strip
//! ```
//!
//! The source is `$KERNEL_SRC` (a tree) or else the archive of Debian's `linux-source-6.12`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{SOURCE_DATE_EPOCH, fresh_log};
use crate::cache::{Ctx, Key, remove_tree};
use crate::progress::Task;

/// Raised when the way of building changes what comes out.
const BUILDER: &str = "1";

const FRAGMENT: &str = "guest/kernel/guest.config";

const ARCHIVE: &str = "/usr/src/linux-source-6.12.tar.xz";

/// The folder of the guest kernel: `vmlinux` (stripped ELF with a PVH note), `config`,
/// `System.map` for reading the addresses of an oops, `build.log`.
///
/// # Errors
/// When there is no source, a configuration option doesn't end as asked, or the build fails.
pub fn kernel(ctx: &Ctx) -> Result<PathBuf> {
    let fragment = ctx.workspace.join(FRAGMENT);
    let asked = fs::read_to_string(&fragment)
        .with_context(|| format!("could not read {}", fragment.display()))?;
    let source = Source::find(std::env::var_os("KERNEL_SRC"))?;
    let key = Key::new("kernel")
        .text("builder", BUILDER)
        .text("source", &source.identity()?)
        .text("compiler", &compiler()?)
        .text("options", &options(&asked).join("\n"));
    ctx.cache
        .artifact(&key, |out| build(ctx, &source, &asked, out))
}

/// Where the Linux source comes from.
#[derive(Debug)]
enum Source {
    Tree(PathBuf),
    Archive(PathBuf),
}

impl Source {
    fn find(tree: Option<OsString>) -> Result<Self> {
        if let Some(tree) = tree.filter(|t| !t.is_empty()) {
            let tree = PathBuf::from(tree);
            ensure!(
                tree.join("Kconfig").is_file(),
                "KERNEL_SRC is {}, which is no Linux source tree",
                tree.display()
            );
            ensure!(
                !tree.join(".config").exists(),
                "the tree KERNEL_SRC={} holds a build of its own; run `make mrproper` in it, since \
                 this one is made outside of it",
                tree.display()
            );
            return Ok(Self::Tree(tree));
        }
        ensure!(
            Path::new(ARCHIVE).is_file(),
            "there is no Linux source: install the Debian package linux-source-6.12 (`cargo xtask \
             setup` does), or set KERNEL_SRC to a source tree"
        );
        Ok(Self::Archive(PathBuf::from(ARCHIVE)))
    }

    /// Changes when the source does. Sizes and times instead of contents: a tree is 1.5 GB.
    fn identity(&self) -> Result<String> {
        match self {
            Self::Archive(path) => {
                let meta = fs::metadata(path)?;
                Ok(format!("archive {} {}", meta.size(), meta.mtime()))
            }
            Self::Tree(path) => {
                let (mut files, mut bytes, mut newest) = (0_u64, 0_u64, 0_i64);
                survey(path, &mut |meta| {
                    files += 1;
                    bytes += meta.size();
                    newest = newest.max(meta.mtime());
                })
                .with_context(|| format!("could not read {}", path.display()))?;
                Ok(format!("tree {} {files} {bytes} {newest}", path.display()))
            }
        }
    }
}

fn survey(dir: &Path, see: &mut impl FnMut(&fs::Metadata)) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != ".git" {
            survey(&entry.path(), see)?;
        } else if kind.is_file() {
            see(&entry.metadata()?);
        }
    }
    Ok(())
}

fn compiler() -> Result<String> {
    let output = Command::new("gcc")
        .arg("--version")
        .output()
        .context("could not start gcc: install it (`cargo xtask setup` does)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn build(ctx: &Ctx, source: &Source, asked: &str, out: &Path) -> Result<()> {
    let task = ctx.progress.task("guest kernel");
    let log = fresh_log(ctx, "kernel")?;
    let work = out.join("work");
    let objects = work.join("build");
    fs::create_dir_all(&objects)?;

    let tree = match source {
        Source::Tree(path) => path.canonicalize()?,
        Source::Archive(path) => unpack(&task, &log, path, &work)?,
    };
    let make = |targets: &[&str]| {
        let mut command = Command::new("make");
        command
            .arg("-C")
            .arg(&tree)
            .arg(format!("O={}", objects.display()))
            .arg("ARCH=x86_64")
            .args(targets)
            // All that the kernel would otherwise take from the one who builds it.
            .env("KBUILD_BUILD_TIMESTAMP", format!("@{SOURCE_DATE_EPOCH}"))
            .env("KBUILD_BUILD_USER", "sandboxd")
            .env("KBUILD_BUILD_HOST", "sandboxd")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS");
        command
    };
    let config = objects.join(".config");
    task.run(&mut make(&["tinyconfig"]), &log)?;
    let tiny = fs::read_to_string(&config)?;
    fs::write(&config, format!("{tiny}\n{asked}"))?;
    task.run(&mut make(&["olddefconfig"]), &log)?;
    let unmet = unmet(asked, &fs::read_to_string(&config)?);
    if !unmet.is_empty() {
        bail!(
            "these options of {FRAGMENT} did not end as asked (a dependency is missing, or another \
             option selects them):\n    {}",
            unmet.join("\n    ")
        );
    }

    let jobs = format!(
        "-j{}",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    task.run(&mut make(&[&jobs, "vmlinux"]), &log)?;
    let mut strip = Command::new("strip");
    strip
        .arg("--strip-all")
        .arg("-o")
        .arg(out.join("vmlinux"))
        .arg(objects.join("vmlinux"));
    task.run(&mut strip, &log)?;
    fs::copy(&config, out.join("config"))?;
    fs::copy(objects.join("System.map"), out.join("System.map"))?;
    fs::copy(&log, out.join("build.log"))?;
    remove_tree(&work)?;
    let size = fs::metadata(out.join("vmlinux"))?.len();
    task.done(&format!("vmlinux {:.1} MiB", super::mib(size)));
    Ok(())
}

fn unpack(task: &Task, log: &Path, archive: &Path, work: &Path) -> Result<PathBuf> {
    task.message("unpacking the source");
    let tree = work.join("source");
    fs::create_dir(&tree)?;
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(&tree)
        .args(["--strip-components=1", "-xf"])
        .arg(archive);
    // A quarter of the tree is register tables of graphics cards and device trees of boards.
    for unused in [
        "drivers/gpu/drm/amd/include",
        "arch/*/boot/dts",
        "tools/testing",
    ] {
        tar.arg(format!("--exclude=*/{unused}"));
    }
    task.run(&mut tar, log)?;
    Ok(tree)
}

/// The name of the option that a line of a fragment switches off.
fn off(line: &str) -> Option<&str> {
    line.strip_prefix("# CONFIG_")?.strip_suffix(" is not set")
}

/// The lines of a fragment that ask for something: what was only said about them builds no other kernel.
fn options(fragment: &str) -> Vec<&str> {
    let asks = |line: &&str| line.starts_with("CONFIG_") || off(line).is_some();
    fragment.lines().map(str::trim).filter(asks).collect()
}

/// The lines of the fragment `asked` that the finished configuration `got` doesn't fulfil, each
/// with what it has instead.
fn unmet(asked: &str, got: &str) -> Vec<String> {
    let mut unmet = Vec::new();
    for line in options(asked) {
        let off = off(line);
        let on = line
            .strip_prefix("CONFIG_")
            .and_then(|on| on.split('=').next());
        let name = off.or(on).unwrap_or(line);
        let set = format!("CONFIG_{name}=");
        let result = got.lines().map(str::trim).find(|l| l.starts_with(&set));
        // An option that is off may also be absent, when its dependencies are off.
        let fulfilled = if off.is_some() {
            result.is_none()
        } else {
            result == Some(line)
        };
        if !fulfilled {
            unmet.push(format!(
                "asked: {line}   got: {}",
                result.unwrap_or("not set")
            ));
        }
    }
    unmet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_what_came_are_compared() {
        let asked =
            "# why\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n# CONFIG_D is not set\n";
        assert!(unmet(asked, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n").is_empty());
        assert_eq!(
            unmet(
                asked,
                "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=\"y\"\nCONFIG_AA=y\n"
            ),
            [
                "asked: CONFIG_A=y   got: not set",
                "asked: # CONFIG_B is not set   got: CONFIG_B=y",
                "asked: CONFIG_C=\"x\"   got: CONFIG_C=\"y\"",
            ]
        );
    }

    #[test]
    fn a_comment_is_no_option() {
        let fragment = "# Why A, not CONFIG_B.\n CONFIG_A=y \n\n# CONFIG_B is not set\n";
        assert_eq!(options(fragment), ["CONFIG_A=y", "# CONFIG_B is not set"]);
    }

    #[test]
    fn the_fragment_asks_for_each_option_once() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(FRAGMENT);
        let mut seen = std::collections::BTreeSet::new();
        for line in fs::read_to_string(path).unwrap().lines() {
            let line = line.trim_start_matches("# ");
            let Some(rest) = line.strip_prefix("CONFIG_") else {
                continue;
            };
            let name = rest.split(['=', ' ']).next().unwrap();
            assert!(
                seen.insert(name.to_owned()),
                "CONFIG_{name} stands there twice"
            );
        }
        assert!(seen.len() > 100);
    }

    #[test]
    fn a_folder_that_is_no_source_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Source::find(Some(dir.path().into()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no Linux source tree"), "{error}");
    }

    #[test]
    fn a_changed_tree_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Kconfig"), "mainmenu").unwrap();
        let source = Source::find(Some(dir.path().into())).unwrap();
        let before = source.identity().unwrap();
        fs::write(dir.path().join("Makefile"), "all:").unwrap();
        assert_ne!(before, source.identity().unwrap());
    }
}
