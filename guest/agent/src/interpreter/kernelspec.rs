//! Kernels of the image: `kernel.json` files, looked up as Jupyter does.
//!
//! ```text
//! <home>/.local/share/jupyter/kernels/<name>/kernel.json
//! <prefix>/share/jupyter/kernels/<name>/kernel.json       for each <prefix>/bin in PATH, then /usr/local and /usr
//! ```
//!
//! They are the guest's files: bounded in size, and whatever they say runs as the sandbox's user. Source:
//! jupyter-client, "Kernel specs".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::languages;

/// The longest `kernel.json` that is read, in bytes.
const MAX_SPEC: u64 = 64 * 1024;
/// What the connection file's path stands in for.
const CONNECTION_FILE: &str = "{connection_file}";
/// What the kernelspec's own directory stands in for.
const RESOURCE_DIR: &str = "{resource_dir}";

/// How a kernel is told to stop what it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// By SIGINT.
    #[default]
    Signal,
    /// By an `interrupt_request` on the control socket.
    Message,
}

/// The members of `kernel.json` that are looked at.
#[derive(Debug, Clone, Deserialize)]
struct SpecFile {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    interrupt_mode: InterruptMode,
}

/// A kernel that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSpec {
    /// Name of its directory.
    pub name: String,
    /// Variables it wants.
    pub env: BTreeMap<String, String>,
    /// See [`InterruptMode`].
    pub interrupt_mode: InterruptMode,
    argv: Vec<String>,
}

impl KernelSpec {
    /// The command line for a connection file.
    pub fn command(&self, connection_file: &Path) -> Vec<String> {
        let file = connection_file.to_string_lossy();
        self.argv
            .iter()
            .map(|argument| argument.replace(CONNECTION_FILE, &file))
            .collect()
    }
}

/// Finds the kernel for a language. Blocks.
pub fn find(language: &str, home: &Path, search_path: &str) -> Option<KernelSpec> {
    let names = languages::kernelspecs(language);
    let directories = directories(home, search_path);
    names
        .iter()
        .find_map(|name| directories.iter().find_map(|place| read(place, name)))
}

/// Names of all kernels there are, sorted. Blocks.
pub fn installed(home: &Path, search_path: &str) -> Vec<String> {
    let mut names: Vec<String> = directories(home, search_path)
        .iter()
        .filter_map(|place| std::fs::read_dir(&place.kernels).ok())
        .flat_map(|entries| entries.flatten().take(1000))
        .filter(|entry| entry.path().join("kernel.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A directory of kernelspecs, and the prefix it belongs to.
struct Place {
    kernels: PathBuf,
    prefix: Option<PathBuf>,
}

fn directories(home: &Path, search_path: &str) -> Vec<Place> {
    let mut places = vec![Place {
        kernels: home.join(".local/share/jupyter/kernels"),
        prefix: None,
    }];
    let in_path = search_path
        .split(':')
        .map(Path::new)
        .filter(|dir| dir.ends_with("bin"));
    let prefixes = in_path
        .filter_map(Path::parent)
        .chain([Path::new("/usr/local"), Path::new("/usr")]);
    for prefix in prefixes {
        let kernels = prefix.join("share/jupyter/kernels");
        if places.iter().all(|place| place.kernels != kernels) {
            places.push(Place {
                kernels,
                prefix: Some(prefix.to_owned()),
            });
        }
    }
    places
}

fn read(place: &Place, name: &str) -> Option<KernelSpec> {
    let directory = place.kernels.join(name);
    let mut text = String::new();
    let file = File::open(directory.join("kernel.json")).ok()?;
    file.take(MAX_SPEC).read_to_string(&mut text).ok()?;
    let spec: SpecFile = serde_json::from_str(&text).ok()?;
    let directory = directory.to_string_lossy();
    let mut argv: Vec<String> = spec
        .argv
        .iter()
        .map(|argument| argument.replace(RESOURCE_DIR, &directory))
        .collect();
    let program = argv.first_mut()?;
    // "python" in a spec means the interpreter it was installed with.
    if program.starts_with("python")
        && let Some(own) = place
            .prefix
            .as_ref()
            .map(|prefix| prefix.join("bin").join(&*program))
        && own.exists()
    {
        *program = own.to_string_lossy().into_owned();
    }
    Some(KernelSpec {
        name: name.to_owned(),
        env: spec.env,
        interrupt_mode: spec.interrupt_mode,
        argv,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn install(prefix: &Path, name: &str, text: &str) {
        let directory = prefix.join("share/jupyter/kernels").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("kernel.json"), text).unwrap();
    }

    #[test]
    fn the_first_prefix_in_the_path_wins_and_python_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let text = r#"{"argv": ["python", "-m", "k", "-f", "{connection_file}", "{resource_dir}/x"],
                       "display_name": "P", "language": "python", "metadata": {"debugger": true}}"#;
        install(&one, "python3", text);
        install(&two, "python3", text);
        install(
            &two,
            "bash",
            r#"{"argv": ["b"], "interrupt_mode": "message", "env": {"A": "1"}}"#,
        );
        fs::create_dir_all(one.join("bin")).unwrap();
        fs::write(one.join("bin/python"), "").unwrap();
        let search_path = format!("{0}/bin:{1}/bin:/elsewhere", one.display(), two.display());
        let home = dir.path().join("home");
        let python = find("python", &home, &search_path).unwrap();
        assert_eq!(
            python.command(Path::new("/run/c.json")),
            [
                one.join("bin/python").to_str().unwrap(),
                "-m",
                "k",
                "-f",
                "/run/c.json",
                one.join("share/jupyter/kernels/python3/x")
                    .to_str()
                    .unwrap(),
            ]
        );
        let bash = find("bash", &home, &search_path).unwrap();
        assert_eq!(bash.interrupt_mode, InterruptMode::Message);
        assert_eq!(bash.env["A"], "1");
        let installed = installed(&home, &search_path);
        assert!(
            installed.contains(&"bash".to_owned()) && installed.contains(&"python3".to_owned())
        );
    }

    #[test]
    fn broken_and_missing_specs_are_no_kernels() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "python3", "not json");
        install(dir.path(), "empty", r#"{"argv": []}"#);
        let search_path = format!("{}/bin", dir.path().display());
        let home = dir.path().join("home");
        assert_eq!(find("empty", &home, &search_path), None);
        assert_eq!(find("no-such-kernel", &home, &search_path), None);
        assert_eq!(find("../python3", &home, &search_path), None);
        let broken = Place {
            kernels: dir.path().join("share/jupyter/kernels"),
            prefix: None,
        };
        assert_eq!(read(&broken, "python3"), None);
    }
}
