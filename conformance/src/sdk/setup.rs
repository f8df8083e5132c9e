//! A pin's installation in the cache folder, made once for all runs.
//!
//! ```text
//!  $E2B_CONFORMANCE_CACHE, else $XDG_CACHE_HOME/e2b-conformance, else ~/.cache/e2b-conformance
//!   ├ python-current-<hash>/   venv             hash: of the packages and the interpreter's version
//!   ├ js-current-<hash>/       node project
//!   └ scenarios-<hash>/        the programs of the suite
//! ```
//!
//! It is made beside its place and moved there when it is whole, so that a folder that is there is good, whoever made it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::group::{self, Ended};
use super::pins::{Language, Pin};
use crate::context::unique;

/// Seconds that one step of a set-up may take.
const STEP: u64 = 600;

/// An installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its folder.
    pub folder: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
    /// Language.
    pub language: Language,
    /// Interpreter: the venv's python, or node.
    pub program: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No interpreter.
    #[error("`{0}` is not installed; the SDK checks of this language need it")]
    Missing(&'static str),
    /// An interpreter that is too old.
    #[error("{program} is {have}, and {pin} needs {needs} or newer")]
    Old {
        /// Which.
        program: &'static str,
        /// Its version.
        have: String,
        /// Whose need.
        pin: String,
        /// The oldest that will do.
        needs: String,
    },
    /// An interpreter that does not say its version.
    #[error("`{program}` does not say its version: {why}")]
    Mute {
        /// Which.
        program: &'static str,
        /// What it said.
        why: String,
    },
    /// No venv.
    #[error("python3 cannot make a venv (on Debian: apt install python3-venv): {0}")]
    Venv(String),
    /// Packages that do not come.
    #[error("{tool} could not install the SDK; is its registry reached? {why}")]
    Install {
        /// `pip` or `npm`.
        tool: &'static str,
        /// What it said.
        why: String,
    },
    /// A step that did not end.
    #[error("{0} did not end within {STEP} s")]
    Late(&'static str),
    /// No place for it.
    #[error("the cache folder {}: {source}; set E2B_CONFORMANCE_CACHE", folder.display())]
    Cache {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No home, so no cache folder.
    #[error("there is neither E2B_CONFORMANCE_CACHE nor XDG_CACHE_HOME nor HOME to put SDKs into")]
    NoCache,
}

/// The cache folder.
///
/// # Errors
/// When the environment names none.
pub fn cache() -> Result<PathBuf, SetupError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("E2B_CONFORMANCE_CACHE")
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|base| Path::new(&base).join("e2b-conformance")))
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache/e2b-conformance")))
        .ok_or(SetupError::NoCache)
}

/// The pin's installation; made when it is not there.
///
/// # Errors
/// See [`SetupError`].
pub async fn project(pin: &Pin) -> Result<Project, SetupError> {
    let cache = cache()?;
    let (program, version) = match pin.language {
        Language::Python => ("python3", version("python3", pin).await?),
        Language::Js => ("node", version("node", pin).await?),
    };
    let folder = cache.join(format!("{}-{}", pin.name, pin.hash(&version)));
    let project = Project {
        program: match pin.language {
            Language::Python => folder.join("bin/python"),
            Language::Js => PathBuf::from(program),
        },
        language: pin.language,
        folder,
        cache,
    };
    if project.folder.is_dir() {
        return Ok(project);
    }
    let partial = project.cache.join(format!("partial-{}", unique()));
    let made = match pin.language {
        Language::Python => venv(pin, &partial).await,
        Language::Js => node(pin, &partial).await,
    };
    let moved = made.and_then(|()| {
        std::fs::rename(&partial, &project.folder).or_else(|source| {
            // Another run was first.
            if project.folder.is_dir() {
                Ok(())
            } else {
                Err(failed(&project.folder, source))
            }
        })
    });
    let _ = std::fs::remove_dir_all(&partial);
    moved.map(|()| project)
}

fn failed(folder: &Path, source: std::io::Error) -> SetupError {
    SetupError::Cache {
        folder: folder.to_owned(),
        source,
    }
}

async fn version(program: &'static str, pin: &Pin) -> Result<String, SetupError> {
    let mut command = Command::new(program);
    command.arg("--version");
    let ended = step(program, command).await?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    let have = said
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let have = have.ok_or_else(|| SetupError::Mute {
        program,
        why: ended.last_words(),
    })?;
    if numbers(have) < numbers(&pin.runtime) {
        return Err(SetupError::Old {
            program,
            have: have.to_owned(),
            pin: pin.name.clone(),
            needs: pin.runtime.clone(),
        });
    }
    Ok(have.to_owned())
}

/// The numbers of a version, for comparison.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

async fn step(what: &'static str, command: Command) -> Result<Ended, SetupError> {
    let ended = group::run(command, b"", Duration::from_secs(STEP)).await;
    let ended = ended.map_err(|_| SetupError::Missing(what))?;
    if ended.late {
        return Err(SetupError::Late(what));
    }
    Ok(ended)
}

async fn venv(pin: &Pin, folder: &Path) -> Result<(), SetupError> {
    let make = || std::fs::create_dir_all(folder);
    make().map_err(|source| failed(folder, source))?;
    let mut command = Command::new("python3");
    command.args(["-m", "venv"]).arg(folder);
    let ended = step("python3", command).await?;
    if !ended.ok() {
        return Err(SetupError::Venv(ended.last_words()));
    }
    let wanted: Vec<String> = pin
        .packages
        .iter()
        .map(|package| package.replacen('@', "==", 1))
        .collect();
    let mut command = Command::new(folder.join("bin/python"));
    // All packages are named, so none is looked up; wheels only, so nothing is built or run.
    command
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args([
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .args(&wanted);
    installed("pip", step("pip", command).await?)
}

async fn node(pin: &Pin, folder: &Path) -> Result<(), SetupError> {
    let wanted: serde_json::Map<String, serde_json::Value> = pin
        .packages
        .iter()
        .filter_map(|package| package.rsplit_once('@'))
        .map(|(name, version)| (name.to_owned(), version.into()))
        .collect();
    let manifest = serde_json::json!({ "private": true, "dependencies": wanted });
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("package.json"), manifest.to_string())
    };
    write().map_err(|source| failed(folder, source))?;
    let mut command = Command::new("npm");
    command
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .current_dir(folder);
    installed("npm", step("npm", command).await?)
}

fn installed(tool: &'static str, ended: Ended) -> Result<(), SetupError> {
    if ended.ok() {
        return Ok(());
    }
    Err(SetupError::Install {
        tool,
        why: ended.last_words(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("3.9.2") < numbers("3.10"));
        assert!(numbers("20.20.2") >= numbers("20.18"));
        assert!(numbers("3.11.7") >= numbers("3.10"));
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let missing = SetupError::Missing("node").to_string();
        assert_eq!(
            missing,
            "`node` is not installed; the SDK checks of this language need it"
        );
        let offline = SetupError::Install {
            tool: "pip",
            why: "No matching distribution".to_owned(),
        };
        assert!(offline.to_string().contains("is its registry reached?"));
    }
}
