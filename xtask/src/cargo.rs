//! Cargo, as xtask runs it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache::Ctx;
use crate::progress;

/// Names the workspace that built into a shared target folder last.
const STAMP: &str = ".workspace";

/// The cargo that runs us, in the workspace.
#[must_use]
pub fn cargo(ctx: &Ctx) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&ctx.workspace);
    // Cargo sets these for us; they would mislead build scripts of what it builds for us.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The target folder `name` in the cache, which all clones on this machine share for what they
/// have in common: the dependencies.
///
/// Cargo tells a stale file by its time and a member by its path *within* the workspace, so it
/// would take what another clone compiled for this one's. Members built by another are removed.
///
/// # Errors
/// When the folder can't be made or cleaned.
pub fn target(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let target = ctx.cache.dir(format!("target/{name}"))?;
    let stamp = target.join(STAMP);
    let own = ctx.workspace.as_os_str().as_encoded_bytes();
    if fs::read(&stamp).is_ok_and(|last| last == own) {
        return Ok(target);
    }
    // Of members, cargo cleans one profile at a time.
    for profile in ["dev", "release"] {
        let output = cargo(ctx)
            .args(["clean", "--quiet", "--workspace", "--profile", profile])
            .arg("--target-dir")
            .arg(&target)
            .output()
            .context("could not start cargo: is it installed?")?;
        ensure!(
            output.status.success(),
            "could not clean {}: {}",
            target.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::write(&stamp, own).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(target)
}

/// Compiles the program `name`, unoptimized, and says where it is; cargo knows what is out of date.
///
/// # Errors
/// When it does not compile.
pub fn program(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let task = ctx.progress.task(name);
    let log = ctx.cache.dir("logs")?.join(format!("{name}.log"));
    let output = cargo(ctx)
        // The whole workspace's features, so that what its tests compiled will do.
        .args(["build", "--locked", "--workspace", "--bin", name])
        .args(["--message-format", "json"])
        .stdin(Stdio::null())
        .output()
        .context("could not start cargo")?;
    fs::write(&log, &output.stderr)?;
    ensure!(
        output.status.success(),
        "the program {name} does not compile:\n{}",
        progress::tail(&log)
    );
    let program = executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built no {name}"))?;
    task.done("");
    Ok(program)
}

/// The program `name` among cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::cache::Cache;
    use crate::progress::Progress;

    /// A workspace whose one program prints `word`, last changed an hour ago.
    fn workspace(root: &Path, word: &str) -> PathBuf {
        let dir = root.join(word);
        let source = dir.join("tool/src");
        fs::create_dir_all(&source).unwrap();
        fs::write(
            dir.join("Cargo.toml"),
            "[workspace]\nresolver = \"3\"\nmembers = [\"tool\"]\n",
        )
        .unwrap();
        fs::write(
            dir.join("tool/Cargo.toml"),
            "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        )
        .unwrap();
        let main = source.join("main.rs");
        fs::write(&main, format!("fn main() {{ print!(\"{word}\"); }}\n")).unwrap();
        let old = SystemTime::now() - Duration::from_secs(3_600);
        for file in [main, dir.join("tool/Cargo.toml"), dir.join("Cargo.toml")] {
            fs::File::open(file).unwrap().set_modified(old).unwrap();
        }
        dir
    }

    #[test]
    fn the_program_is_found_among_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"serde\"},\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"other\"},\"executable\":\"/t/debug/other\"}\n",
            "warning: not JSON\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"reports\"},\"executable\":\"/t/debug/reports\"}\n",
        );
        let found = executable(messages, "reports");
        assert_eq!(found, Some("/t/debug/reports".into()));
        assert_eq!(executable(messages, "serde"), None);
    }

    #[test]
    fn clones_that_share_a_target_folder_do_not_take_each_others_programs() {
        let root = tempfile::tempdir().unwrap();
        for profile in [&["--release"][..], &[]] {
            for word in ["one", "two", "one"] {
                let ctx = Ctx {
                    workspace: workspace(root.path(), word),
                    cache: Cache::at(&root.path().join("cache")).unwrap(),
                    progress: Progress::new(),
                };
                let target = target(&ctx, "programs").unwrap();
                let mut run = cargo(&ctx);
                run.args(["run", "--quiet", "--offline", "--target-dir"])
                    .arg(&target)
                    .args(profile)
                    .env_remove("CARGO_TARGET_DIR");
                let output = run.output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{said}");
            }
        }
    }
}
