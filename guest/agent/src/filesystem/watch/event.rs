//! From the kernel's inotify flags to the events clients know.
//!
//! ```text
//! IN_CREATE, IN_MOVED_TO           CREATE
//! IN_MOVED_FROM, IN_MOVE_SELF      RENAME
//! IN_ATTRIB                        CHMOD   (also a change of owner or of an extended attribute)
//! IN_MODIFY                        WRITE
//! IN_DELETE, IN_DELETE_SELF        REMOVE
//! ```
//!
//! One flag word can hold several; they are reported in the order of the table. Source: `inotify(7)`, and the
//! mapping of the Go library that E2B's agent watches with.

use rustix::fs::inotify::ReadFlags;

use crate::filesystem::entry::Entry;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It appeared: made, or moved here.
    Create,
    /// It was moved away from here.
    Rename,
    /// Its mode, owner, times or attributes changed.
    Chmod,
    /// Its content changed.
    Write,
    /// It is gone.
    Remove,
}

/// One change below a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Relative to the watched directory; `.` for the directory itself.
    pub name: String,
    /// What happened.
    pub change: Change,
    /// What is there now, when the watch asked for it and something is.
    pub entry: Option<Entry>,
}

/// The changes in one flag word, in reporting order.
pub fn changes(flags: ReadFlags) -> impl Iterator<Item = Change> {
    [
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, Change::Create),
        (ReadFlags::MOVED_FROM | ReadFlags::MOVE_SELF, Change::Rename),
        (ReadFlags::ATTRIB, Change::Chmod),
        (ReadFlags::MODIFY, Change::Write),
        (ReadFlags::DELETE | ReadFlags::DELETE_SELF, Change::Remove),
    ]
    .into_iter()
    .filter(move |(mask, _)| flags.intersects(*mask))
    .map(|(_, change)| change)
}

impl Change {
    /// Whether an entry is looked up for it: only when the name may still be there.
    pub fn has_entry(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Chmod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_flag_has_its_change() {
        for (flags, expected) in [
            (ReadFlags::CREATE, vec![Change::Create]),
            (ReadFlags::MOVED_TO | ReadFlags::ISDIR, vec![Change::Create]),
            (ReadFlags::MOVED_FROM, vec![Change::Rename]),
            (ReadFlags::MOVE_SELF, vec![Change::Rename]),
            (
                ReadFlags::ATTRIB | ReadFlags::MODIFY,
                vec![Change::Chmod, Change::Write],
            ),
            (ReadFlags::DELETE, vec![Change::Remove]),
            (ReadFlags::DELETE_SELF, vec![Change::Remove]),
            (ReadFlags::IGNORED, vec![]),
            (ReadFlags::QUEUE_OVERFLOW, vec![]),
        ] {
            assert_eq!(changes(flags).collect::<Vec<_>>(), expected, "{flags:?}");
        }
    }

    proptest! {
        #[test]
        fn no_change_is_reported_twice(bits in any::<u32>()) {
            let found: Vec<_> = changes(ReadFlags::from_bits_retain(bits)).collect();
            for (index, change) in found.iter().enumerate() {
                prop_assert!(!found[..index].contains(change));
            }
        }
    }
}
