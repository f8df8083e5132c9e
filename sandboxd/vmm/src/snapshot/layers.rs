//! Memory layers: writing what a machine holds, and laying a snapshot's layers under a machine.
//!
//! ```text
//!   write:  own pages (see `crate::memory`) ─► zero? ── yes ─► hole, or `Zero` above a parent
//!                                                └─ no ──► memory.n at its place
//!   lay:    layer 0 ─► mapped in few long pieces ─► long runs of upper layers mapped over it ─► short ones copied
//! ```
//!
//! Every mapping costs the kernel a structure and the restore a system call, every copy a page of this process. So layer 0, the
//! template that all clones share, is mapped across gaps of up to [`GAP`] (a page that a clone only reads there is a page of
//! zeroes in the file's cache), and runs of a diff are mapped from [`LONG_RUN`] on and copied below. Longer gaps stay reserved
//! memory: reading there takes no page at all, and on tmpfs reading a hole of a file would make one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::extents::{Extent, Extents, Source};
use crate::devices::virtio::GuestMemory;
use crate::memory::{PAGE, place};

/// Longest gap in layer 0 that is mapped along.
pub const GAP: u64 = 1 << 20;
/// Shortest run of an upper layer that is mapped.
pub const LONG_RUN: u64 = 256 << 10;
/// Most bytes written by one call.
const CHUNK: u64 = 4 << 20;

/// One step of laying layers under a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Map from a layer.
    Map {
        /// Which.
        layer: u32,
        /// Place.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Copy from a layer.
    Copy {
        /// Which.
        layer: u32,
        /// Place.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Write zeroes.
    Zero {
        /// Place.
        at: u64,
        /// Bytes.
        len: u64,
    },
}

/// Decides how to make untouched memory hold what `extents` say.
pub fn plan(extents: &Extents) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut bottom: Option<(u64, u64)> = None;
    for extent in extents.as_slice() {
        if extent.source != Source::Layer(0) {
            continue;
        }
        let end = extent.at + extent.len;
        bottom = match bottom {
            Some((at, last)) if extent.at - last <= GAP => Some((at, end)),
            Some((at, last)) => {
                steps.push(Step::Map {
                    layer: 0,
                    at,
                    len: last - at,
                });
                Some((extent.at, end))
            }
            None => Some((extent.at, end)),
        };
    }
    if let Some((at, last)) = bottom {
        steps.push(Step::Map {
            layer: 0,
            at,
            len: last - at,
        });
    }
    for &Extent { at, len, source } in extents.as_slice() {
        match source {
            Source::Layer(0) => {}
            Source::Layer(layer) if len >= LONG_RUN => steps.push(Step::Map { layer, at, len }),
            Source::Layer(layer) => steps.push(Step::Copy { layer, at, len }),
            Source::Zero => steps.push(Step::Zero { at, len }),
        }
    }
    steps
}

/// Makes guest memory what `extents` of `layers` say, sharing their pages. The guest stands still and no device is active.
///
/// # Errors
/// When the host fails; memory then holds neither the old nor the new.
pub fn lay(memory: &GuestMemory, extents: &Extents, layers: &[File]) -> io::Result<()> {
    let file = |layer: u32| {
        let index = usize::try_from(layer).ok();
        let file = index.and_then(|index| layers.get(index));
        file.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    };
    for step in plan(extents) {
        match step {
            Step::Map { layer, at, len } => place::map(memory, file(layer)?, at, at, len)?,
            Step::Copy { layer, at, len } => place::read(memory, file(layer)?, at, at, len)?,
            Step::Zero { at, len } => place::zero(memory, at, len)?,
        }
    }
    Ok(())
}

/// Ranges whose bytes may differ from `extents`, under a machine that was laid from them and whose `own` pages are these. Runs
/// that were copied count even when they are own no more: a page that a guest reported free shows what lies under the copy.
pub fn changed(extents: &Extents, own: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let source = Source::Layer(0);
    let run = |(at, len)| Extent { at, len, source };
    let copied = plan(extents).into_iter().filter_map(|step| match step {
        Step::Map { .. } => None,
        Step::Copy { at, len, .. } | Step::Zero { at, len } => Some(run((at, len))),
    });
    // Steps come by layer and then by place; runs above layer 0 are in the order of their places.
    let mut copied: Vec<_> = copied.collect();
    copied.sort_by_key(|extent| extent.at);
    let copied: Extents = copied.into_iter().collect();
    let own: Extents = own.iter().copied().map(run).collect();
    let all = copied.overlaid(&own);
    all.as_slice().iter().map(|e| (e.at, e.len)).collect()
}

/// What [`write`] wrote.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The changed pages: in the new layer, or zero.
    pub extents: Extents,
    /// Bytes of data in the file.
    pub bytes: u64,
}

/// Writes the pages of `ranges` to `file` at their places as layer `layer`. With `zeroes`, pages of zeroes are said outright;
/// without, they are left out, which means the same where nothing lies below. The guest stands still.
///
/// # Errors
/// When the host fails.
pub fn write(
    memory: &GuestMemory,
    ranges: &[(u64, u64)],
    file: &File,
    layer: u32,
    zeroes: bool,
) -> io::Result<Written> {
    file.set_len(place::size(memory))?;
    let mut extents = Extents::default();
    for &(at, len) in ranges {
        place::each_page(memory, at, len, |at, page| {
            let source = match is_zero(page) {
                true => Source::Zero,
                false => Source::Layer(layer),
            };
            if zeroes || source != Source::Zero {
                let len = PAGE;
                extents.push(Extent { at, len, source });
            }
        })?;
    }
    let mut bytes = 0;
    for extent in extents.as_slice() {
        if extent.source == Source::Zero {
            continue;
        }
        let mut done = 0;
        while done < extent.len {
            let (at, len) = (extent.at + done, CHUNK.min(extent.len - done));
            place::write(memory, file, at, at, len)?;
            done += len;
        }
        bytes += extent.len;
    }
    Ok(Written { extents, bytes })
}

fn is_zero(page: &[u8]) -> bool {
    page.chunks_exact(64)
        .all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// CRC-32 of a sparse file: of the offset and bytes of each page that is not all zeroes, so that holes do not count and take no
/// time, whichever file system tells of them.
///
/// # Errors
/// When the host fails.
pub fn checksum(file: &File) -> io::Result<u32> {
    use nix::unistd::{Whence, lseek};
    let len = file.metadata()?.len();
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let from = libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        let seek =
            |from, whence| lseek(file, from, whence).map(|to| u64::try_from(to).unwrap_or(len));
        let (start, end) = match seek(from, Whence::SeekData) {
            Ok(start) => {
                let back = libc::off_t::try_from(start).unwrap_or(from);
                (start, seek(back, Whence::SeekHole).unwrap_or(len))
            }
            Err(nix::Error::ENXIO) => break,
            Err(nix::Error::EINVAL) => (at, len),
            Err(why) => return Err(why.into()),
        };
        at = start / PAGE * PAGE;
        let end = end.next_multiple_of(PAGE).min(len);
        while at < end {
            let want =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            file.read_exact_at(&mut buffer[..want], at)?;
            let step = usize::try_from(PAGE).unwrap_or(want);
            for (page, offset) in buffer[..want].chunks(step).zip((at..).step_by(step)) {
                if !is_zero(page) {
                    crc.update(&offset.to_le_bytes());
                    crc.update(page);
                }
            }
            at += want as u64;
        }
    }
    Ok(crc.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::arch::x86_64::layout::Range;
    use crate::memory::pagemap::{Pagemap, Which};

    const PAGES: u64 = 256;

    fn memory() -> GuestMemory {
        let range = |start| Range {
            start,
            len: PAGES / 2 * PAGE,
        };
        crate::memory::create(&[range(0), range(1 << 32)]).unwrap()
    }

    fn address(page: u64) -> GuestAddress {
        let half = PAGES / 2;
        GuestAddress(match page < half {
            true => page * PAGE,
            false => (1 << 32) + (page - half) * PAGE,
        })
    }

    fn contents(memory: &GuestMemory) -> Vec<u8> {
        let mut all = Vec::new();
        place::each_page(memory, 0, PAGES * PAGE, |_, page| {
            all.extend_from_slice(page)
        })
        .unwrap();
        all
    }

    #[test]
    fn a_plan_shares_the_template_and_copies_what_is_short() {
        let layer = |at, len, source| Extent { at, len, source };
        let extents: Extents = [
            layer(0, PAGE, Source::Layer(0)),
            layer(PAGE, PAGE, Source::Layer(1)),
            layer(2 * PAGE, PAGE, Source::Layer(0)),
            layer(GAP, PAGE, Source::Layer(0)),
            layer(4 * GAP, LONG_RUN, Source::Layer(2)),
            layer(8 * GAP, PAGE, Source::Zero),
            layer(8 * GAP + PAGE, PAGE, Source::Layer(0)),
        ]
        .into_iter()
        .collect();
        let (map, copy) = (
            |layer, at, len| Step::Map { layer, at, len },
            |layer, at, len| Step::Copy { layer, at, len },
        );
        assert_eq!(
            plan(&extents),
            [
                map(0, 0, GAP + PAGE),
                map(0, 8 * GAP + PAGE, PAGE),
                copy(1, PAGE, PAGE),
                map(2, 4 * GAP, LONG_RUN),
                Step::Zero {
                    at: 8 * GAP,
                    len: PAGE
                },
            ]
        );
    }

    #[test]
    fn a_checksum_does_not_depend_on_holes() {
        let (sparse, full) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        sparse.set_len(64 * PAGE).unwrap();
        full.write_all_at(&[0; 64 * 4096], 0).unwrap();
        for file in [&sparse, &full] {
            file.write_all_at(&[3; 100], 17 * PAGE + 5).unwrap();
        }
        assert_eq!(checksum(&sparse).unwrap(), checksum(&full).unwrap());
        sparse.write_all_at(&[4], 17 * PAGE + 5).unwrap();
        assert_ne!(checksum(&sparse).unwrap(), checksum(&full).unwrap());
    }

    /// What a machine does between two snapshots: pages written with a byte (0 makes one zero), and pages reported free.
    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, u64, u8),
        Forget(u64, u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        let run = (0..PAGES, 1..80u64);
        prop_oneof![
            4 => (run.clone(), 0..4u8).prop_map(|((page, pages), byte)| Change::Write(page, pages, byte)),
            1 => run.prop_map(|(page, pages)| Change::Forget(page, pages)),
        ]
    }

    fn apply(memory: &GuestMemory, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Write(page, pages, byte) => {
                    for page in page..(page + pages).min(PAGES) {
                        memory.write_slice(&[byte; 4096], address(page)).unwrap();
                    }
                }
                Change::Forget(page, pages) => {
                    let pages = pages.min(PAGES - page);
                    place::forget(memory, page * PAGE, pages * PAGE).unwrap();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// A chain of diffs, each written by a machine that was itself laid from the chain so far, holds the same bytes as a
        /// full copy, and so does every machine laid from it.
        #[test]
        fn a_chain_of_diffs_is_a_full_copy(
            rounds in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..6),
        ) {
            let pagemap = Pagemap::open().unwrap();
            let machine = memory();
            let mut extents = Extents::default();
            let mut layers: Vec<File> = Vec::new();
            for (round, changes) in (0u32..).zip(&rounds) {
                apply(&machine, changes);
                let want = contents(&machine);
                let own = pagemap.find(&machine, Which::Own).unwrap();
                let ranges = changed(&extents, &own);
                let file = tempfile::tempfile().unwrap();
                let written = write(&machine, &ranges, &file, round, round > 0).unwrap();
                extents = extents.overlaid(&written.extents);
                layers.push(file);
                prop_assert!(extents.fit(PAGES * PAGE, layers.len()));

                let clone = memory();
                lay(&clone, &extents, &layers).unwrap();
                prop_assert!(contents(&clone) == want, "the clone differs in round {}", round);
                // The machine itself goes on as a clone of what it wrote, or goes back to it.
                place::blank(&machine).unwrap();
                lay(&machine, &extents, &layers).unwrap();
                prop_assert!(contents(&machine) == want, "the machine differs in round {}", round);
            }
        }
    }
}
