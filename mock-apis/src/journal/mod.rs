//! What was called, by whom, and what became of it.
//!
//! ```text
//! arrival ─► append (number, caller, request, decision) ─► end, once: sent, cut by script, or the client left
//! ```
//!
//! Nothing is removed or changed but by a reset. Memory is bounded: when it is full, further calls are counted and not kept, and whoever
//! judges by the journal is told so.

mod entry;
pub mod har;
mod headers;

pub use entry::{End, Entry, How, Seen, SeenReply};
pub use headers::Headers;

/// Most entries that are kept.
pub const MAX_ENTRIES: usize = 100_000;
/// Most bytes of bodies that are kept in all entries together: 256 MiB.
pub const MAX_BYTES: usize = 256 << 20;

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    bytes: usize,
    lost: u64,
    epoch: u64,
}

/// Where an entry is; worth nothing after a reset.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    index: usize,
    epoch: u64,
}

impl Journal {
    /// Appends `entry`, which gets its number; `None` when the journal is full.
    pub fn append(&mut self, mut entry: Entry) -> Option<Place> {
        let size = entry.size();
        if self.entries.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            self.lost += 1;
            return None;
        }
        self.bytes += size;
        entry.n = self.entries.len() as u64 + 1;
        self.entries.push(entry);
        Some(Place {
            index: self.entries.len() - 1,
            epoch: self.epoch,
        })
    }

    /// Notes the end of a call; the first end stays.
    pub fn end(&mut self, place: Place, end: End) {
        if place.epoch == self.epoch
            && let Some(entry) = self.entries.get_mut(place.index)
        {
            entry.end.get_or_insert(end);
        }
    }

    /// All entries, in order of arrival.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Calls that were not kept.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            ..Self::default()
        };
    }

    /// One JSON object per line; those of `caller` alone when given.
    pub fn jsonl(&self, caller: Option<&str>) -> String {
        let lines = self
            .entries
            .iter()
            .filter(|entry| caller.is_none_or(|caller| entry.caller == caller));
        lines
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .map(|line| line + "\n")
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_noted_once_and_not_across_a_reset() {
        let mut journal = Journal::default();
        let end = |how| End { how, at_ms: 1 };
        let place = journal.append(Entry::default()).unwrap();
        journal.end(place, end(How::ClientLeft));
        journal.end(place, end(How::Sent));
        assert_eq!(journal.entries()[0].end, Some(end(How::ClientLeft)));
        journal.reset();
        journal.append(Entry::default()).unwrap();
        journal.end(place, end(How::Sent));
        assert_eq!(
            (journal.entries()[0].end, journal.entries()[0].n),
            (None, 1)
        );
    }

    #[test]
    fn a_full_journal_counts_what_it_does_not_keep() {
        let mut journal = Journal {
            bytes: MAX_BYTES - 10,
            ..Journal::default()
        };
        let mut entry = Entry::default();
        entry.request.body = "x".repeat(11);
        assert!(journal.append(entry).is_none());
        assert_eq!((journal.lost(), journal.entries().len()), (1, 0));
    }
}
