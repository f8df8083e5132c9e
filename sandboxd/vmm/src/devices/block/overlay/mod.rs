//! A copy-on-write overlay: one sparse file that holds what a guest changed of a read-only base file.
//!
//! ```text
//!   0            header, 4 KiB                            see `header`
//!   4 KiB        map, pages of 4 KiB                      see `map`: 2 bits per cluster, a checksum per page
//!   data offset  cluster 0 │ cluster 1 │ cluster 2 │ …    cluster n of the disk, a hole unless its state is Data
//!                (a multiple of 64 KiB)
//!
//!            ┌────────────── write: whole cluster, or copy-up ──────────────┐
//!            │                                                              ▼
//!   state:  Base ── write zeroes ──► Zero ──────────── write ───────────► Data ──┐
//!          (reads the base file)    (reads as zeroes, no bytes) ◄── discard, ────┘
//!                                                                   write zeroes
//! ```
//!
//! **Cluster size.** 4 KiB up to 62 GiB of disk: that is the block of the guest's file systems and its page, so ordinary
//! writes always cover whole clusters and nothing is ever copied up; a write of less (a hostile or odd guest) reads the
//! rest of its cluster from the base first. The price is 64 KiB of map per GiB of disk, of which a process only touches
//! the pages of clusters that changed. Above that the cluster doubles until the map fits 4 MiB, up to 64 KiB.
//!
//! **A cluster's place is fixed** (offset = data offset + n × cluster size), so there is no table to keep in step with
//! allocations, a run of clusters on the disk is a run in the file, and the host's file system does the allocating.
//!
//! Ordering rules:
//! 1. Data is written before the state in memory changes to Data: a failed write leaves what was there.
//! 2. Map pages reach the file only in `flush`, and only after the data they speak of is on the host's disk: after a crash
//!    of host or process each cluster reads as it did at the last flush or at some moment since, as with any disk that has
//!    a volatile cache.
//! 3. A cluster counts against the ceiling before its first byte is written, and stops counting when its hole is punched.
//!    The ceiling is for the whole file: header, map and data clusters.
//! 4. The file is locked (flock) while it is open.

mod header;
mod io;
mod layer;
mod map;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use self::header::{BaseIdentity, Header, HeaderError};
pub use self::layer::{Fresh, Layer, MAX_LAYERS};
pub use self::map::{Map, MapError, PAGE, State};
use super::backend::RawFile;

/// Why an overlay is refused.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The file could not be opened, made or read.
    #[error("the host failed: {0}")]
    Host(#[from] std::io::Error),
    /// Another process has it open.
    #[error("another process is using it")]
    InUse,
    /// Its first bytes are wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It was made for another base file, or the base file changed.
    #[error("it was made for another base file, or the base file has changed since")]
    OtherBase,
    /// The file is shorter than its header says.
    #[error("it is cut short: {got} of {want} bytes")]
    Short {
        /// Bytes that the header asks for.
        want: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// A page of the map is damaged.
    #[error(transparent)]
    Map(#[from] MapError),
    /// More layers than are ever made.
    #[error("{0} layers lie below it, but there are at most {MAX_LAYERS}")]
    Layers(usize),
    /// The ceiling leaves no room for a single cluster.
    #[error(
        "its ceiling of {ceiling} bytes is below the {least} bytes that it takes with one cluster"
    )]
    Ceiling {
        /// Bytes allowed.
        ceiling: u64,
        /// Bytes needed at least.
        least: u64,
    },
}

/// An open overlay and its base.
#[derive(Debug)]
pub struct Overlay {
    base: RawFile,
    /// Frozen layers between the base and this file, the oldest first.
    layers: Vec<Layer>,
    path: PathBuf,
    file: File,
    header: Header,
    map: Map,
    /// Most data clusters that the ceiling allows.
    most_clusters: u64,
    /// Whether data was written since the last flush.
    unsynced: bool,
    /// Whether a sync failed, so that the host may have lost data.
    lost: bool,
    /// One cluster, for copy-up; made when first needed.
    scratch: Vec<u8>,
}

impl Overlay {
    /// Opens the overlay at `path` over `base`, or makes it when there is no file or an empty one. The file will never
    /// take more than `ceiling` bytes of the host's disk, file system overhead aside.
    ///
    /// # Errors
    /// When the file is damaged, in use, or belongs to another base, and when the host fails.
    pub fn open(path: &Path, base: RawFile, ceiling: u64) -> Result<Self, OverlayError> {
        Self::open_over(path, base, &[], ceiling)
    }

    /// The same with the frozen layers at `layers` between, the oldest first.
    ///
    /// # Errors
    /// As [`Overlay::open`]; also when a layer is damaged or belongs to another base.
    pub fn open_over(
        path: &Path,
        base: RawFile,
        layers: &[PathBuf],
        ceiling: u64,
    ) -> Result<Self, OverlayError> {
        if layers.len() > MAX_LAYERS {
            return Err(OverlayError::Layers(layers.len()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.try_lock().map_err(|why| match why {
            TryLockError::WouldBlock => OverlayError::InUse,
            TryLockError::Error(why) => OverlayError::Host(why),
        })?;
        let identity = BaseIdentity::of(&base.file, base.size)?;
        let (header, map) = match file.metadata()?.len() {
            0 => create(&file, base.size, identity)?,
            len => load(&file, len, base.size, identity)?,
        };
        let layers: Result<Vec<_>, _> = layers
            .iter()
            .map(|layer| Layer::open(layer, identity, base.size))
            .collect();
        let least = header.data_offset + header.cluster_size();
        if ceiling < least {
            return Err(OverlayError::Ceiling { ceiling, least });
        }
        let most_clusters = (ceiling - header.data_offset) / header.cluster_size();
        Ok(Self {
            base,
            layers: layers?,
            path: path.to_owned(),
            file,
            header,
            map,
            most_clusters,
            unsynced: false,
            lost: false,
            scratch: Vec::new(),
        })
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.header.disk_size
    }

    /// Bytes in a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    /// What the base file is recognised by.
    pub fn base_identity(&self) -> BaseIdentity {
        self.header.base
    }

    /// Bytes that the file takes of the host's disk: header, map and data clusters.
    pub fn bytes(&self) -> u64 {
        self.header.data_offset + self.map.data_clusters() * self.cluster_size()
    }
}

fn create(file: &File, disk_size: u64, base: BaseIdentity) -> Result<(Header, Map), OverlayError> {
    let header = Header::for_disk(disk_size, base)?;
    file.write_all_at(&header.encode(), 0)?;
    file.set_len(header.file_size())?;
    Ok((header, Map::new(header.clusters())))
}

fn load(
    file: &File,
    len: u64,
    disk_size: u64,
    identity: BaseIdentity,
) -> Result<(Header, Map), OverlayError> {
    let mut page = [0; PAGE];
    let got = read_up_to(file, &mut page)?;
    let header = Header::decode(&page[..got])?;
    if header.base != identity || header.disk_size != disk_size {
        return Err(OverlayError::OtherBase);
    }
    if len < header.file_size() {
        return Err(OverlayError::Short {
            want: header.file_size(),
            got: len,
        });
    }
    let mut map = Map::new(header.clusters());
    // Pages that were never written are holes; they need not be read to be known as zeroes.
    let mut index = 0;
    while let Some(next) = next_page(file, &header, index)? {
        if next >= map.pages() {
            break;
        }
        file.read_exact_at(&mut page, header.map_page_offset(next))?;
        map.load_page(next, &page)?;
        index = next + 1;
    }
    Ok((header, map))
}

/// The first page of the map at or after `index` that may hold something.
fn next_page(file: &File, header: &Header, index: usize) -> Result<Option<usize>, OverlayError> {
    let from = header.map_page_offset(index);
    let offset = libc::off_t::try_from(from).unwrap_or(libc::off_t::MAX);
    match nix::unistd::lseek(file, offset, nix::unistd::Whence::SeekData) {
        Ok(data) => {
            let skipped = u64::try_from(data).unwrap_or(from).saturating_sub(from) / PAGE as u64;
            Ok(Some(index + usize::try_from(skipped).unwrap_or(0)))
        }
        Err(nix::Error::ENXIO) => Ok(None),
        // A file system that does not know its holes.
        Err(nix::Error::EINVAL) => Ok(Some(index)),
        Err(why) => Err(OverlayError::Host(why.into())),
    }
}

fn read_up_to(file: &File, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], done as u64)? {
            0 => break,
            got => done += got,
        }
    }
    Ok(done)
}
