//! Writing one uploaded file.
//!
//! ```text
//! parents   missing ones made, 0755, owned by the user
//! open      created 0666 less the umask, or truncated in place
//! chown     always, through the descriptor
//! write     in pieces of 256 KiB, so that a small file is one write(2)
//! metadata  the whole set replaced; no call at all when there is nothing to set or clear
//! ```
//!
//! A watcher sees a small new file as exactly CREATE, CHMOD, WRITE: SDK tests count them.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::error::FilesError;
use crate::filesystem::metadata::{self, Metadata};
use crate::filesystem::operations::{Owner, ensure_dirs};

/// The size of one write.
const PIECE: usize = 256 * 1024;

/// Writes `content` to `path` and makes the file `owner`'s. Memory use does not grow with the size.
///
/// # Errors
/// Directory or device at the path, full disk, a body that breaks off. What was written until then stays.
pub async fn write_file<E: std::fmt::Display>(
    path: &Path,
    owner: Owner,
    metadata: &Metadata,
    mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<(), FilesError> {
    let (file, fresh) = {
        let path = path.to_owned();
        blocking(move || open(&path, owner)).await?
    };
    let attributes = file
        .try_clone()
        .map_err(|error| FilesError::io("write", path, error))?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE);
    let failed = |error| FilesError::io("write", path, error);
    let mut piece = BytesMut::new();
    while let Some(bytes) = content.next().await {
        let mut bytes = bytes.map_err(|error| FilesError::Body(error.to_string()))?;
        while !bytes.is_empty() {
            let room = PIECE - piece.len();
            piece.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if piece.len() == PIECE {
                file.write_all(&piece).await.map_err(failed)?;
                piece.clear();
            }
        }
    }
    if !piece.is_empty() {
        file.write_all(&piece).await.map_err(failed)?;
    }
    // Waits for the last write and tells how it went.
    file.flush().await.map_err(failed)?;
    if !fresh || !metadata.is_empty() {
        let (path, metadata) = (path.to_owned(), metadata.clone());
        blocking(move || {
            metadata::replace(&attributes, fresh, &metadata).map_err(|error| match error {
                rustix::io::Errno::NOTSUP => FilesError::NoMetadata(path),
                error => FilesError::io("set metadata of", path, error.into()),
            })
        })
        .await?;
    }
    Ok(())
}

/// Opens the file for writing, empty and owned by `owner`. True when it was not there before.
pub(super) fn open(path: &Path, owner: Owner) -> Result<(std::fs::File, bool), FilesError> {
    let failed = |action| move |error| FilesError::io(action, path, error);
    if let Some(parent) = path.parent() {
        ensure_dirs(parent, owner)?;
    }
    let mut options = OpenOptions::new();
    // Not blocking: a pipe without a reader is refused instead of waited for.
    options
        .write(true)
        .mode(0o666)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let (file, fresh) = match options.clone().create_new(true).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Through a link to nowhere, too, the target is made.
            let file = options
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed("open"))?;
            (file, false)
        }
        Err(error) => return Err(failed("create")(error)),
    };
    if !fresh {
        if !file.metadata().map_err(failed("stat"))?.is_file() {
            return Err(FilesError::NotRegular(path.to_owned()));
        }
        file.set_len(0).map_err(failed("truncate"))?;
    }
    fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(failed("give away"))?;
    Ok((file, fresh))
}

/// Runs `work` off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(FilesError::io(
                "finish the work on",
                PathBuf::new(),
                io::Error::other(error),
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn me() -> Owner {
        Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    fn pieces(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
        let pieces: Vec<_> = bytes
            .chunks(size)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        stream::iter(pieces)
    }

    #[tokio::test]
    async fn content_arrives_whole_whatever_its_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for size in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            write_file(&path, me(), &Metadata::new(), pieces(&content, 65_537))
                .await
                .unwrap();
            assert!(fs::read(&path).unwrap() == content, "{size} bytes");
        }
    }

    #[tokio::test]
    async fn an_existing_file_keeps_its_inode_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"something longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o741)).unwrap();
        let before = fs::metadata(&path).unwrap();
        write_file(&path, me(), &Metadata::new(), pieces(b"new", 9))
            .await
            .unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_link_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        symlink("target", dir.path().join("link")).unwrap();
        let path = dir.path().join("link");
        write_file(&path, me(), &Metadata::new(), pieces(b"1", 9))
            .await
            .unwrap();
        assert_eq!(fs::read(dir.path().join("target")).unwrap(), b"1");
    }

    #[tokio::test]
    async fn what_is_not_a_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = write_file(&pipe, me(), &Metadata::new(), pieces(b"1", 9))
            .await
            .unwrap_err();
        assert!(matches!(error, FilesError::NotRegular(_)), "{error}");
        let error = write_file(dir.path(), me(), &Metadata::new(), pieces(b"1", 9))
            .await
            .unwrap_err();
        assert!(matches!(error, FilesError::IsDirectory(_)), "{error}");
        let null = Path::new("/dev/null");
        let error = write_file(null, me(), &Metadata::new(), pieces(b"1", 9))
            .await
            .unwrap_err();
        assert!(matches!(error, FilesError::NotRegular(_)), "{error}");
    }

    #[tokio::test]
    async fn a_full_disk_is_told_apart() {
        let full = Path::new("/dev/full");
        let file = OpenOptions::new().write(true).open(full).unwrap();
        let error = io::Write::write_all(&mut &file, b"1").unwrap_err();
        assert!(matches!(
            FilesError::io("write", full, error),
            FilesError::NoSpace
        ));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let body = stream::iter([Ok(Bytes::from_static(b"1")), Err("connection reset")]);
        let path = dir.path().join("f");
        let error = write_file(&path, me(), &Metadata::new(), body)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request body cannot be read: connection reset"
        );
    }
}
