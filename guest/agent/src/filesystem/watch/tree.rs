//! An inotify instance over one directory, or over a whole tree. Blocks (it reads directories).
//!
//! ```text
//!               inotify queue ──► drain() ──► Vec<Event>
//!                                   │
//!  new directory below a tree ──────┤ add a watch first, then read the directory: what is in it
//!  directory moved away ────────────┤ drop its watches          already is reported as created
//!  directory gone (IN_IGNORED) ─────┘ forget it
//! ```
//!
//! Ordering: a watch is added before the new directory is read, so nothing falls between. A name may then be
//! both found and announced by the kernel; the kernel's announcements that were in flight while reading are
//! exactly those read until the queue is empty again, and for these the second CREATE is swallowed.
//!
//! Only the watched directory reports about itself (`.`); for those below it their parent does.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::event::{Change, Event, changes};
use crate::filesystem::entry;
use crate::filesystem::error::FilesystemError;
use crate::users::UserDb;

/// The most directories one tree watches; each costs about 1 KiB of kernel memory.
const MAX_DIRECTORIES: usize = 65_536;
/// The most kernel events one drain takes: what the kernel queues at most by default
/// (`fs.inotify.max_queued_events`), so that a busy writer cannot keep a drain going for ever.
const MAX_DRAIN: usize = 16_384;

/// What a client asked to watch.
#[derive(Debug, Clone)]
pub struct Request {
    /// The directory, resolved.
    pub path: PathBuf,
    /// Also everything below.
    pub recursive: bool,
    /// Events tell what is there now.
    pub include_entry: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Tree {
    inotify: OwnedFd,
    request: Request,
    users: UserDb,
    /// Watch descriptor to path relative to the root; the root's is empty.
    directories: HashMap<i32, PathBuf>,
}

/// One event as the kernel tells it.
struct Raw {
    watch: i32,
    flags: ReadFlags,
    name: OsString,
}

/// Names found by reading new directories, until the queue has been empty once.
type Found = HashSet<(i32, OsString)>;

impl Tree {
    /// Starts watching.
    ///
    /// # Errors
    /// No such directory, or no watches left.
    pub fn open(request: Request, users: UserDb) -> Result<Self, FilesystemError> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| watch_error("open a watch on", &request.path, error))?;
        let mut tree = Self {
            inotify,
            request,
            users,
            directories: HashMap::new(),
        };
        let flags = below() | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let path = tree.request.path.clone();
        let root = inotify::add_watch(&tree.inotify, &path, flags)
            .map_err(|error| watch_error("watch", &path, error))?;
        tree.directories.insert(root, PathBuf::new());
        if tree.request.recursive {
            // What is here before the watch is not news.
            tree.descend(root, PathBuf::new(), None)?;
        }
        Ok(tree)
    }

    /// Takes everything the kernel has queued.
    ///
    /// # Errors
    /// [`FilesystemError::EventsLost`] when the kernel's queue overflowed.
    pub fn drain(&mut self) -> Result<Vec<Event>, FilesystemError> {
        let mut events = Vec::new();
        let mut found = Found::new();
        let mut taken = 0;
        while taken < MAX_DRAIN {
            let batch = self.read()?;
            if batch.is_empty() {
                break;
            }
            taken += batch.len();
            for raw in batch {
                self.take(&raw, &mut found, &mut events)?;
            }
        }
        if self.request.include_entry {
            for event in &mut events {
                if event.change.has_entry() {
                    let path = join(&self.request.path, &event.name);
                    event.entry = entry::read(&path, &path, &self.users).ok();
                }
            }
        }
        Ok(events)
    }

    /// One read of the queue; empty when there is nothing.
    fn read(&self) -> Result<Vec<Raw>, FilesystemError> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut batch = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => batch.push(Raw {
                    watch: event.wd(),
                    flags: event.events(),
                    name: event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned())
                        .unwrap_or_default(),
                }),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(batch),
                Err(error) => {
                    return Err(watch_error("read events of", &self.request.path, error));
                }
            }
            if reader.is_buffer_empty() {
                return Ok(batch);
            }
        }
    }

    fn take(
        &mut self,
        raw: &Raw,
        found: &mut Found,
        events: &mut Vec<Event>,
    ) -> Result<(), FilesystemError> {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(FilesystemError::EventsLost);
        }
        let Some(directory) = self.directories.get(&raw.watch).cloned() else {
            return Ok(()); // Of a watch that was dropped a moment ago.
        };
        if raw.flags.contains(ReadFlags::IGNORED) {
            self.directories.remove(&raw.watch);
            return Ok(());
        }
        let is_root = directory.as_os_str().is_empty();
        if raw.name.is_empty() && !is_root {
            return Ok(()); // The parent tells the same.
        }
        let relative = directory.join(&raw.name);
        let is_directory = raw.flags.contains(ReadFlags::ISDIR) && !raw.name.is_empty();
        let key = (raw.watch, raw.name.clone());
        if raw
            .flags
            .intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM)
        {
            found.remove(&key);
        }
        if raw.flags.contains(ReadFlags::CREATE) && found.remove(&key) {
            return Ok(());
        }
        for change in changes(raw.flags) {
            events.push(Event {
                name: show(&relative),
                change,
                entry: None,
            });
        }
        if self.request.recursive && is_directory {
            if raw.flags.contains(ReadFlags::MOVED_FROM) {
                self.forget(&relative);
            } else if raw.flags.contains(ReadFlags::CREATE) {
                self.add(relative, Some((found, events)))?;
            } else if raw.flags.contains(ReadFlags::MOVED_TO) {
                self.add(relative, None)?;
            }
        }
        Ok(())
    }

    /// Watches a directory below the root and all below it. With `news`, what is found there is reported.
    fn add(
        &mut self,
        relative: PathBuf,
        news: Option<(&mut Found, &mut Vec<Event>)>,
    ) -> Result<(), FilesystemError> {
        match self.watch(&relative)? {
            Some(watch) => self.descend(watch, relative, news),
            None => Ok(()),
        }
    }

    /// Adds one watch. None when the directory is gone again, which is nobody's fault.
    fn watch(&mut self, relative: &Path) -> Result<Option<i32>, FilesystemError> {
        if self.directories.len() >= MAX_DIRECTORIES {
            return Err(FilesystemError::TooManyWatches(
                "the tree holds more directories than one watch covers (65,536)",
            ));
        }
        let path = self.request.path.join(relative);
        match inotify::add_watch(&self.inotify, &path, below() | WatchFlags::DONT_FOLLOW) {
            Ok(watch) => {
                self.directories.insert(watch, relative.into());
                Ok(Some(watch))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(watch_error("watch", &path, error)),
        }
    }

    /// Watches every directory below `relative`, which is watched itself as `watch`.
    fn descend(
        &mut self,
        watch: i32,
        relative: PathBuf,
        mut news: Option<(&mut Found, &mut Vec<Event>)>,
    ) -> Result<(), FilesystemError> {
        let mut left = vec![(watch, relative)];
        while let Some((watch, directory)) = left.pop() {
            let Ok(inside) = fs::read_dir(self.request.path.join(&directory)) else {
                continue; // Gone again.
            };
            for item in inside.flatten() {
                let name = item.file_name();
                let child = directory.join(&name);
                let is_directory = item.file_type().is_ok_and(|kind| kind.is_dir());
                if let Some((found, events)) = news.as_mut() {
                    found.insert((watch, name));
                    events.push(Event {
                        name: show(&child),
                        change: Change::Create,
                        entry: None,
                    });
                    // What was written before the watch was there cannot be announced any more.
                    if item
                        .metadata()
                        .is_ok_and(|data| data.is_file() && data.len() > 0)
                    {
                        let name = show(&child);
                        events.push(Event {
                            name,
                            change: Change::Write,
                            entry: None,
                        });
                    }
                }
                if is_directory && let Some(watch) = self.watch(&child)? {
                    left.push((watch, child));
                }
            }
        }
        Ok(())
    }

    /// Drops the watches of a directory that was moved away, and of all below it.
    fn forget(&mut self, relative: &Path) {
        let inotify = &self.inotify;
        self.directories.retain(|watch, path| {
            let gone = path.starts_with(relative);
            if gone {
                // Fails only when the kernel has dropped it already.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            !gone
        });
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What is watched in every directory.
fn below() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::ATTRIB
        | WatchFlags::MODIFY
        | WatchFlags::DELETE
        | WatchFlags::ONLYDIR
}

fn show(relative: &Path) -> String {
    if relative.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        relative.to_string_lossy().into_owned()
    }
}

fn join(root: &Path, name: &str) -> PathBuf {
    if name == "." {
        root.into()
    } else {
        root.join(name)
    }
}

fn watch_error(action: &'static str, path: &Path, error: Errno) -> FilesystemError {
    match error {
        Errno::MFILE => FilesystemError::TooManyWatches(
            "the system's limit of inotify instances (fs.inotify.max_user_instances) is reached",
        ),
        Errno::NOSPC => FilesystemError::TooManyWatches(
            "the system's limit of watched directories (fs.inotify.max_user_watches) is reached",
        ),
        error => FilesystemError::io(action, path, error.into()),
    }
}

#[cfg(test)]
mod tests;
