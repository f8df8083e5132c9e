//! What can go wrong with files, and what kind of fault a client gets for it.

use std::io;
use std::path::PathBuf;

use crate::errors::{Fault, Kind};

/// A refused or failed filesystem call.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// The path does not name anything.
    #[error("path not found: {}", .0.display())]
    NotFound(PathBuf),
    /// A directory was to be made where one is already.
    #[error("directory already exists: {}", .0.display())]
    AlreadyExists(PathBuf),
    /// A directory was to be made, and something else is in the way.
    #[error("path already exists but it is not a directory: {}", .0.display())]
    InTheWay(PathBuf),
    /// A directory was needed, and the path names something else.
    #[error("path is not a directory: {}", .0.display())]
    NotADirectory(PathBuf),
    /// Symbolic links lead in a circle, or through more links than the kernel follows.
    #[error("cyclic symlink or too long a chain of links at {}", .0.display())]
    Cyclic(PathBuf),
    /// A path that cannot be used: a NUL byte, or the root itself where that makes no sense.
    #[error("{reason}: {}", .path.display())]
    Invalid {
        /// Why not.
        reason: &'static str,
        /// The path as resolved.
        path: PathBuf,
    },
    /// More entries than one answer may hold.
    #[error("{} holds more than {limit} entries at this depth; list it in smaller parts", .path.display())]
    TooManyEntries {
        /// The directory listed.
        path: PathBuf,
        /// The most entries one answer holds.
        limit: usize,
    },
    /// The file system is full.
    #[error("not enough disk space available for {}", .0.display())]
    NoSpace(PathBuf),
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A watch on a network file system, where changes made elsewhere are never seen.
    #[error("cannot watch path on network filesystem: {} (set allow_network_mounts to watch it anyway)", .0.display())]
    NetworkMount(PathBuf),
    /// The kernel has no watch left to give, or a limit of this service is reached.
    #[error("too many watches: {0}")]
    TooManyWatches(&'static str),
    /// Changes came faster than they were taken away, and some are lost.
    #[error(
        "events were lost because they were not read fast enough; list the directory and watch again"
    )]
    EventsLost,
    /// No watcher of that id: never made, or removed.
    #[error("watcher with id {0} not found")]
    UnknownWatcher(String),
}

impl FilesystemError {
    /// Wraps an operating system error, giving the ones with a meaning of their own their name.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::NOENT) => Self::NotFound(path),
            Some(rustix::io::Errno::NOTDIR) => Self::NotADirectory(path),
            Some(rustix::io::Errno::LOOP) => Self::Cyclic(path),
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Self::NoSpace(path),
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    /// What the client can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::UnknownWatcher(_) => Kind::NotFound,
            Self::AlreadyExists(_) => Kind::AlreadyExists,
            Self::InTheWay(_)
            | Self::NotADirectory(_)
            | Self::Invalid { .. }
            | Self::NetworkMount(_) => Kind::InvalidArgument,
            Self::Cyclic(_) => Kind::FailedPrecondition,
            Self::TooManyEntries { .. } | Self::TooManyWatches(_) | Self::EventsLost => {
                Kind::ResourceExhausted
            }
            Self::NoSpace(_) => Kind::NotEnoughSpace,
            Self::Io { source, .. } => Fault::io("", source).kind,
        }
    }
}

impl From<FilesystemError> for Fault {
    fn from(error: FilesystemError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<FilesystemError> for connectrpc::ConnectError {
    fn from(error: FilesystemError) -> Self {
        Fault::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn operating_system_errors_get_the_code_the_sdks_expect() {
        for (errno, kind) in [
            (Errno::NOENT, Kind::NotFound),
            (Errno::NOTDIR, Kind::InvalidArgument),
            (Errno::LOOP, Kind::FailedPrecondition),
            (Errno::NOSPC, Kind::NotEnoughSpace),
            (Errno::ACCESS, Kind::PermissionDenied),
            (Errno::IO, Kind::Internal),
        ] {
            let error = FilesystemError::io("read", "/x", errno.into());
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
