//! The agent's files, to be written into its sandbox.
//!
//! ```text
//!   --upload path/to/agents   ─►   /home/user/agents/good.py, …      a folder, under its own name
//!   --upload agent.py         ─►   /home/user/agent.py               a file
//! ```
//!
//! Hidden files and compiled Python stay behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most files.
const MAX_FILES: usize = 1_000;
/// Most bytes of all files: 64 MiB.
const MAX_BYTES: u64 = 64 << 20;
/// Deepest folder below the one that was named.
const MAX_DEPTH: usize = 16;

/// A file of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is written, below the agent's working directory.
    pub to: String,
    /// What is written.
    pub content: Vec<u8>,
}

/// Why they cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Reading.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A name that is no text, or none.
    #[error("{0}: it has no name that could be written into a sandbox")]
    Name(PathBuf),
    /// Too many.
    #[error("{0}: more than {MAX_FILES} files, or more than 64 MiB; name the agent's own folder")]
    TooMuch(PathBuf),
}

/// Reads all files behind `paths`.
///
/// # Errors
/// [`FilesError`].
pub fn read(paths: &[PathBuf]) -> Result<Vec<File>, FilesError> {
    let mut taken = Taken::default();
    for path in paths {
        let failed = |error| FilesError::Io(path.clone(), error);
        // `agents/..` has no name of its own.
        let full = fs::canonicalize(path).map_err(failed)?;
        taken.add(&full, "", 0)?;
    }
    Ok(taken.files)
}

#[derive(Default)]
struct Taken {
    files: Vec<File>,
    bytes: u64,
}

impl Taken {
    fn add(&mut self, path: &Path, below: &str, depth: usize) -> Result<(), FilesError> {
        let failed = |error| FilesError::Io(path.to_owned(), error);
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| FilesError::Name(path.to_owned()))?;
        let to = format!("{below}{name}");
        let about = fs::metadata(path).map_err(failed)?;
        if about.is_dir() && depth < MAX_DEPTH {
            let mut inside = fs::read_dir(path)
                .and_then(Iterator::collect::<io::Result<Vec<_>>>)
                .map_err(failed)?;
            inside.sort_by_key(fs::DirEntry::file_name);
            for entry in inside {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !name.starts_with('.') && name != "__pycache__" {
                    self.add(&entry.path(), &format!("{to}/"), depth + 1)?;
                }
            }
        } else if about.is_file() {
            self.bytes += about.len();
            if self.files.len() >= MAX_FILES || self.bytes > MAX_BYTES {
                return Err(FilesError::TooMuch(path.to_owned()));
            }
            let content = fs::read(path).map_err(failed)?;
            self.files.push(File { to, content });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_under_its_name_without_what_is_not_the_agents() {
        let dir = tempfile::tempdir().unwrap();
        let agents = dir.path().join("agents");
        for path in ["good.py", "lib/a.py", ".git/config", "__pycache__/x.pyc"] {
            let path = agents.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(dir.path().join("one.sh"), "y").unwrap();
        let files = read(&[agents.join("lib/.."), dir.path().join("one.sh")]).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.to.as_str()).collect();
        assert_eq!(names, ["agents/good.py", "agents/lib/a.py", "one.sh"]);
        assert_eq!(files[2].content, b"y");
    }

    #[test]
    fn too_much_and_nothing_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big");
        fs::File::create(&big)
            .unwrap()
            .set_len(MAX_BYTES + 1)
            .unwrap();
        assert!(matches!(read(&[big]), Err(FilesError::TooMuch(_))));
        let nowhere = dir.path().join("nowhere");
        assert!(matches!(read(&[nowhere]), Err(FilesError::Io(..))));
    }
}
