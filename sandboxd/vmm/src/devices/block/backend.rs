//! Where the bytes of a disk are: a raw file, or a raw file under an overlay.

use std::fs::File;
use std::io;
use std::path::Path;

use super::overlay::Overlay;
use super::{BlockError, SECTOR};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::Segments;
use crate::devices::virtio::guest_io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The overlay would grow beyond its ceiling.
    #[error("the overlay has reached its ceiling")]
    NoSpace,
    /// The disk takes no writes; the request should not have come this far.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host's file failed.
    #[error("the host failed: {0}")]
    Host(#[from] io::Error),
}

/// Where the bytes of a disk are. Ranges given to it lie on the disk.
#[derive(Debug)]
pub enum Backend {
    /// A raw file, never written.
    Raw(RawFile),
    /// A raw file that is never written, and an overlay that takes the writes.
    Overlay(Overlay),
}

impl Backend {
    /// Size of the disk in bytes, a multiple of a sector.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(raw) => raw.size,
            Self::Overlay(overlay) => overlay.size(),
        }
    }

    /// Whether the disk takes no writes.
    pub fn read_only(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    /// Bytes of the smallest range that a discard can give back.
    pub fn discard_unit(&self) -> u64 {
        match self {
            Self::Raw(_) => SECTOR,
            Self::Overlay(overlay) => overlay.cluster_size(),
        }
    }

    /// Reads `len` bytes of the disk from byte `at` into the first bytes of `data`.
    ///
    /// # Errors
    /// When the host fails.
    pub fn read(
        &mut self,
        memory: &GuestMemory,
        data: &Segments,
        len: u32,
        at: u64,
    ) -> Result<(), BackendError> {
        match self {
            Self::Raw(raw) => Ok(guest_io::read_exact_at(
                &raw.file, memory, data, 0, len, at,
            )?),
            Self::Overlay(overlay) => overlay.read(memory, data, len, at),
        }
    }

    /// Writes `len` bytes of `data`, from its byte `offset` on, to byte `at` of the disk.
    ///
    /// # Errors
    /// When the host fails or the overlay is at its ceiling.
    pub fn write(
        &mut self,
        memory: &GuestMemory,
        data: &Segments,
        offset: u32,
        len: u32,
        at: u64,
    ) -> Result<(), BackendError> {
        match self {
            Self::Raw(_) => Err(BackendError::ReadOnly),
            Self::Overlay(overlay) => overlay.write(memory, data, offset, len, at),
        }
    }

    /// Brings everything that was written to the host's disk.
    ///
    /// # Errors
    /// When the host fails.
    pub fn flush(&mut self) -> Result<(), BackendError> {
        match self {
            Self::Raw(_) => Ok(()),
            Self::Overlay(overlay) => overlay.flush(),
        }
    }

    /// Gives a range back to the host as far as whole clusters go; what it reads as afterwards is not defined.
    ///
    /// # Errors
    /// When the host fails.
    pub fn discard(&mut self, at: u64, len: u64) -> Result<(), BackendError> {
        match self {
            Self::Raw(_) => Err(BackendError::ReadOnly),
            Self::Overlay(overlay) => overlay.discard(at, len),
        }
    }

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// When the host fails or the overlay is at its ceiling.
    pub fn write_zeroes(&mut self, at: u64, len: u64) -> Result<(), BackendError> {
        match self {
            Self::Raw(_) => Err(BackendError::ReadOnly),
            Self::Overlay(overlay) => overlay.write_zeroes(at, len),
        }
    }
}

/// A raw image, opened for reading.
#[derive(Debug)]
pub struct RawFile {
    /// The image.
    pub file: File,
    /// Its size in bytes, cut down to whole sectors.
    pub size: u64,
}

impl RawFile {
    /// Opens the image at `path`, a regular file or a block device.
    ///
    /// # Errors
    /// When it cannot be opened or has not one sector.
    pub fn open(path: &Path) -> Result<Self, BlockError> {
        let image = |source| BlockError::Image {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(image)?;
        // The end of a block device is found by seeking; its metadata say 0.
        let end = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(image)?;
        let size = end / SECTOR * SECTOR;
        let kind = file.metadata().map_err(image)?.file_type();
        if size == 0 || kind.is_dir() {
            return Err(BlockError::Empty(path.to_owned()));
        }
        Ok(Self { file, size })
    }
}
