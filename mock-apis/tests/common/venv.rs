//! Python packages that tests drive the server with, in the cache folder.
//!
//! ```text
//! $SANDBOXD_CACHE, else $XDG_CACHE_HOME/sandboxd, else ~/.cache/sandboxd
//!  └ mock-apis/<name>-<hash>/   venv; hash: of tests/<name>/requirements.txt and the interpreter's version
//! ```
//!
//! It is made beside its place and moved there when it is whole, so that a folder that is there is good, whoever made it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// Debian's own Python first: one from elsewhere may lack venv or be a version manager's shim.
const PYTHONS: [&str; 2] = ["/usr/bin/python3", "python3"];

/// Python with the packages of `tests/<name>/requirements.txt`. Where they cannot be had this says why, and fails when
/// `E2B_CONFORMANCE_SDKS=required`, which CI sets.
pub fn python(name: &str) -> Option<PathBuf> {
    match made(name) {
        Ok(python) => Some(python),
        Err(why) => {
            let required =
                std::env::var("E2B_CONFORMANCE_SDKS").is_ok_and(|value| value == "required");
            assert!(!required, "{name} cannot be installed: {why}");
            println!("NOT TESTED with {name}: {why}");
            None
        }
    }
}

/// Tests of one program wait for each other, instead of installing twice.
static MAKING: Mutex<()> = Mutex::new(());

fn made(name: &str) -> Result<PathBuf, String> {
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
        .join("requirements.txt");
    let found = PYTHONS
        .iter()
        .find_map(|python| Some((*python, run(Command::new(python).arg("--version")).ok()?)));
    let (python, version) = found.ok_or("there is no python3")?;
    let packages = std::fs::read(&requirements).map_err(|error| error.to_string())?;
    let hash = Sha256::new_with_prefix(version)
        .chain_update(packages)
        .finalize();
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let root = cache()?.join("mock-apis");
    let folder = root.join(format!("{name}-{hash}"));
    if !folder.is_dir() {
        let partial = root.join(format!("partial-{}", std::process::id()));
        let installed = install(python, &partial, &requirements);
        let moved = installed.and_then(|()| {
            std::fs::rename(&partial, &folder).or_else(|error| {
                // Another run was first.
                folder.is_dir().then_some(()).ok_or(error.to_string())
            })
        });
        let _ = std::fs::remove_dir_all(&partial);
        moved?;
    }
    Ok(folder.join("bin/python"))
}

fn install(python: &str, folder: &Path, requirements: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    run(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    // All packages are named, so none is looked up; wheels only, so nothing is built or run.
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "--only-binary=:all:", "-r"]);
    run(pip.arg(requirements)).map(drop)
}

fn cache() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("SANDBOXD_CACHE")
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|base| Path::new(&base).join("sandboxd")))
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache/sandboxd")))
        .ok_or("there is neither SANDBOXD_CACHE nor XDG_CACHE_HOME nor HOME".to_owned())
}

/// What the program says, or what it complains of.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stdout) + &text(&output.stderr);
    Err(said.lines().last().unwrap_or("it says nothing").to_owned())
}
