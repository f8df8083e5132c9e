//! The file that a recording is written into: whole or not at all, and never over another one unasked.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Why it is not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is one.
    #[error("{}: is there already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// The file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// The place of a recording. Each save replaces the one before by a rename.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    partial: PathBuf,
    /// Whether what is at `path` may be replaced: it was asked for, or is of an earlier save.
    ours: bool,
}

impl Place {
    /// Tries whether `path` can be written, before anybody has called anything.
    pub fn new(path: &Path, force: bool) -> Result<Self, FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = format!(".{name}.{}.partial", std::process::id());
        let place = Self {
            path: path.to_owned(),
            partial: path.with_file_name(partial),
            ours: force,
        };
        if !force && path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(path.to_owned()));
        }
        let tried = File::create(&place.partial).and_then(|_| fs::remove_file(&place.partial));
        match tried {
            Ok(()) => Ok(place),
            Err(error) => Err(FileError::Io {
                path: place.path,
                error,
            }),
        }
    }

    /// Writes `text`.
    pub fn save(&mut self, text: &str) -> Result<(), FileError> {
        let saved = self.write(text);
        // Moved, or of no use.
        let _ = fs::remove_file(&self.partial);
        saved.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => FileError::Exists(self.path.clone()),
            _ => FileError::Io {
                path: self.path.clone(),
                error,
            },
        })
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        let mut file = File::create(&self.partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if self.ours {
            return fs::rename(&self.partial, &self.path);
        }
        // Unlike a rename, a link replaces nothing that came meanwhile.
        fs::hard_link(&self.partial, &self.path)?;
        self.ours = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        let mut place = Place::new(&path, false).unwrap();
        for text in ["one", "two"] {
            place.save(text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(matches!(
            Place::new(&path, false),
            Err(FileError::Exists(_))
        ));
        Place::new(&path, true).unwrap().save("three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(names, ["s.yaml"]);
    }

    #[test]
    fn one_that_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        let mut place = Place::new(&path, false).unwrap();
        fs::write(&path, "another's").unwrap();
        assert!(matches!(place.save("ours"), Err(FileError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        assert!(Place::new(&folder.path().join("no/s.yaml"), false).is_err());
    }
}
