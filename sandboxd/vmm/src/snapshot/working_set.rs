//! `working-set`: the pages that a machine touches first, so that a restore brings them in at once instead of one by one.
//!
//! ```text
//!   0  magic "SBXWSET1"     12  id of the snapshot, 32 hexadecimal digits
//!   8  CRC-32 of the rest   44  extents as in the state file: layer 0 read, layer 1 written
//! ```
//!
//! It is advice: a folder without it, or with one that is damaged or of another snapshot, is restored all the same, only slower.
//! So it is the one file that may be added to a folder later (by a rename), and the manifest does not speak of it. A page that
//! it names is one that the guest would fault in anyway: a page that will be written is copied ahead, all others are only found.

use std::path::Path;

use super::SnapshotError;
use super::extents::{Extent, Extents, Source};
use crate::devices::virtio::GuestMemory;
use crate::memory::pagemap::{Pagemap, Which};

/// Name of the file.
pub const NAME: &str = "working-set";
const MAGIC: [u8; 8] = *b"SBXWSET1";
const HEADER: usize = 44;
/// Largest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const READ: Source = Source::Layer(0);
const WRITTEN: Source = Source::Layer(1);

/// Pages that a machine touches first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkingSet(Extents);

impl WorkingSet {
    /// The pages that are in memory now.
    ///
    /// # Errors
    /// When the host does not say.
    pub fn of(memory: &GuestMemory, pagemap: &Pagemap) -> std::io::Result<Self> {
        let runs = |which, source| -> std::io::Result<Extents> {
            let found = pagemap.find(memory, which)?.into_iter();
            Ok(found.map(|(at, len)| Extent { at, len, source }).collect())
        };
        let resident = runs(Which::Resident, READ)?;
        Ok(Self(resident.overlaid(&runs(Which::Own, WRITTEN)?)))
    }

    /// Runs of pages, and whether they will be written.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, bool)> + '_ {
        let runs = self.0.as_slice().iter();
        runs.map(|run| (run.at, run.len, run.source == WRITTEN))
    }

    /// Bytes that will be read, and bytes that will be written.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.bytes_in(READ), self.0.bytes_in(WRITTEN))
    }

    /// The bytes of the file for the snapshot `id`.
    pub fn encode(&self, id: &str) -> Vec<u8> {
        let mut rest = id.as_bytes().to_vec();
        rest.resize(HEADER - 12, 0);
        rest.extend_from_slice(&self.0.encode());
        [&MAGIC[..], &crc32fast::hash(&rest).to_le_bytes(), &rest].concat()
    }

    /// Reads the bytes of the file of a snapshot `id` of `size` bytes of memory; None when it is of no use.
    pub fn decode(bytes: &[u8], id: &str, size: u64) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (crc, rest) = rest.split_at_checked(4)?;
        if crc32fast::hash(rest).to_le_bytes() != *crc {
            return None;
        }
        let (of, runs) = rest.split_at_checked(HEADER - 12)?;
        let runs = Extents::decode(runs).ok()?;
        let zeroes = runs.bytes_in(Source::Zero);
        (of == id.as_bytes() && runs.fit(size, 2) && zeroes == 0).then_some(Self(runs))
    }

    /// Puts the file into the folder `dir` of the snapshot `id`.
    ///
    /// # Errors
    /// When the host fails.
    pub fn save(&self, dir: &Path, id: &str) -> Result<(), SnapshotError> {
        let path = dir.join(NAME);
        let temporary = dir.join(format!("{NAME}.tmp-{}", std::process::id()));
        std::fs::write(&temporary, self.encode(id)).map_err(SnapshotError::file(&temporary))?;
        std::fs::rename(&temporary, &path).map_err(SnapshotError::file(&path))
    }

    /// Reads the file of the snapshot `id` in `dir`, if there is a good one.
    pub fn load(dir: &Path, id: &str, size: u64) -> Option<Self> {
        let bytes = super::read_bounded(&dir.join(NAME), MAX_BYTES).ok()?;
        Self::decode(&bytes, id, size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn sample() -> WorkingSet {
        let run = |page: u64, source| Extent {
            at: page * 4096,
            len: 4096,
            source,
        };
        WorkingSet([run(1, READ), run(2, WRITTEN)].into_iter().collect())
    }

    #[test]
    fn it_comes_back_for_its_own_snapshot_only() {
        let bytes = sample().encode(ID);
        assert_eq!(WorkingSet::decode(&bytes, ID, 3 * 4096), Some(sample()));
        assert_eq!(sample().bytes(), (4096, 4096));
        assert_eq!(WorkingSet::decode(&bytes, ID, 2 * 4096), None, "too large");
        let other = "f".repeat(32);
        assert_eq!(WorkingSet::decode(&bytes, &other, 3 * 4096), None);
    }

    #[test]
    fn a_folder_without_one_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(WorkingSet::load(dir.path(), ID, 1 << 20), None);
        sample().save(dir.path(), ID).unwrap();
        assert_eq!(WorkingSet::load(dir.path(), ID, 1 << 20), Some(sample()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn damage_makes_it_useless_and_no_worse(at: prop::sample::Index, byte in 1u8.., cut: bool) {
            let mut bytes = sample().encode(ID);
            let at = at.index(bytes.len());
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= byte,
            }
            prop_assert_eq!(WorkingSet::decode(&bytes, ID, 1 << 20), None);
        }
    }
}
