//! Reading and writing through an overlay: requests are cut into runs of clusters with the same state.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use tracing::debug;
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

use super::super::backend::BackendError;
use super::{Overlay, State};
use crate::devices::virtio::GuestMemory;
use crate::devices::virtio::chain::Segments;
use crate::devices::virtio::guest_io;

/// A piece of a request inside one run of clusters.
struct Piece {
    state: State,
    cluster: u64,
    /// Clusters that the piece touches.
    clusters: u64,
    /// First byte on the disk.
    at: u64,
    len: u64,
}

impl Overlay {
    /// Reads `len` bytes of the disk from byte `at` into the first bytes of `data`.
    pub fn read(
        &self,
        memory: &GuestMemory,
        data: &Segments,
        len: u32,
        at: u64,
    ) -> Result<(), BackendError> {
        let mut done = 0;
        while done < len {
            let from = at + u64::from(done);
            let size = self.cluster_size();
            let cluster = from / size;
            let left = u64::from(len - done);
            let touched = (from + left).div_ceil(size) - cluster;
            let (found, clusters) = self.find(cluster, touched);
            let part = clamp(left.min((cluster + clusters) * size - from));
            match self.source(found, from) {
                None => data.zero(memory, done, part),
                Some((file, place)) => {
                    guest_io::read_exact_at(file, memory, data, done, part, place)?;
                }
            }
            done += part;
        }
        Ok(())
    }

    /// Writes `len` bytes of `data`, from its byte `offset` on, to byte `at` of the disk.
    pub fn write(
        &mut self,
        memory: &GuestMemory,
        data: &Segments,
        offset: u32,
        len: u32,
        at: u64,
    ) -> Result<(), BackendError> {
        let mut done = 0;
        while done < len {
            let piece = self.piece(at + u64::from(done), u64::from(len - done));
            let from = offset + done;
            let part = match self.whole_clusters(&piece) {
                _ if piece.state == State::Data => {
                    self.write_in_place(memory, data, from, &piece)?;
                    piece.len
                }
                0 => {
                    let part = self.rest_of_cluster(&piece);
                    self.copy_up(&piece, |within, cluster| {
                        let end = within + usize::try_from(part).unwrap_or_default();
                        data.read_at(memory, from, &mut cluster[within..end]);
                    })?;
                    part
                }
                whole => {
                    let part = self.whole_bytes(&piece, whole);
                    self.reserve(whole)?;
                    let cut = Piece { len: part, ..piece };
                    if let Err(why) = self.write_in_place(memory, data, from, &cut) {
                        // What did reach the file is not counted, so it must not stay.
                        self.punch(piece.cluster, whole)?;
                        return Err(why);
                    }
                    self.set(piece.cluster, whole, State::Data);
                    part
                }
            };
            done += clamp(part);
        }
        Ok(())
    }

    /// Brings data, then the map to the host's disk.
    pub fn flush(&mut self) -> Result<(), BackendError> {
        if self.unsynced {
            self.sync()?;
            self.unsynced = false;
        }
        let mut from = 0;
        while let Some((index, page)) = self.map.next_dirty(from) {
            self.file
                .write_all_at(page, self.header.map_page_offset(index))?;
            from = index + 1;
        }
        if from > 0 {
            self.sync()?;
            (0..from).for_each(|index| self.map.mark_clean(index));
        }
        Ok(())
    }

    /// Puts the map into the file; for a layer that is about to be frozen where losing power loses the file anyway.
    pub fn settle(&mut self) -> Result<(), BackendError> {
        let mut from = 0;
        while let Some((index, page)) = self.map.next_dirty(from) {
            self.file
                .write_all_at(page, self.header.map_page_offset(index))?;
            from = index + 1;
        }
        // The pages stay dirty: a later flush is to sync them.
        Ok(())
    }

    /// Syncs the file. A failed sync is for ever: the host may have dropped the pages that it could not write, and a
    /// later sync would succeed without them.
    fn sync(&mut self) -> Result<(), BackendError> {
        if self.lost {
            return Err(std::io::Error::from_raw_os_error(libc::EIO).into());
        }
        self.lost = true;
        self.file.sync_data()?;
        self.lost = false;
        Ok(())
    }

    /// Gives whole data clusters of the range back to the host; they read as zeroes afterwards.
    pub fn discard(&mut self, at: u64, len: u64) -> Result<(), BackendError> {
        self.each_piece(at, len, |overlay, piece| {
            let whole = overlay.whole_clusters(piece);
            if whole == 0 {
                return Ok(overlay.rest_of_cluster(piece));
            }
            if piece.state == State::Data && overlay.punch(piece.cluster, whole)? {
                overlay.set(piece.cluster, whole, State::Zero);
            }
            Ok(overlay.whole_bytes(piece, whole))
        })
    }

    /// Makes the range read as zeroes, whole clusters without a byte of data.
    pub fn write_zeroes(&mut self, at: u64, len: u64) -> Result<(), BackendError> {
        self.each_piece(at, len, |overlay, piece| {
            let whole = overlay.whole_clusters(piece);
            match piece.state {
                State::Zero => Ok(piece.len),
                State::Base | State::Data if whole == 0 => {
                    let part = overlay.rest_of_cluster(piece);
                    overlay.copy_up(piece, |within, cluster| {
                        cluster[within..][..usize::try_from(part).unwrap_or_default()].fill(0);
                    })?;
                    Ok(part)
                }
                State::Data if !overlay.punch(piece.cluster, whole)? => {
                    overlay.zero_in_place(piece.cluster, whole)?;
                    Ok(overlay.whole_bytes(piece, whole))
                }
                State::Base | State::Data => {
                    overlay.set(piece.cluster, whole, State::Zero);
                    Ok(overlay.whole_bytes(piece, whole))
                }
            }
        })
    }

    fn each_piece(
        &mut self,
        at: u64,
        len: u64,
        mut handle: impl FnMut(&mut Self, &Piece) -> Result<u64, BackendError>,
    ) -> Result<(), BackendError> {
        let mut done = 0;
        while done < len {
            let piece = self.piece(at + done, len - done);
            done += handle(self, &piece)?;
        }
        Ok(())
    }

    /// The longest piece from byte `at` on, at most `len` bytes, whose clusters share a state.
    fn piece(&self, at: u64, len: u64) -> Piece {
        let size = self.cluster_size();
        let cluster = at / size;
        let touched = (at + len).div_ceil(size) - cluster;
        let (state, clusters) = self.map.run(cluster, touched);
        let end = (cluster + clusters) * size;
        Piece {
            state,
            cluster,
            clusters,
            at,
            len: len.min(end - at),
        }
    }

    /// How many clusters the piece covers wholly from its start; a last cluster cut short by the disk's end is whole.
    fn whole_clusters(&self, piece: &Piece) -> u64 {
        let size = self.cluster_size();
        if !piece.at.is_multiple_of(size) {
            return 0;
        }
        match piece.at + piece.len == self.size() {
            true => piece.clusters,
            false => piece.len / size,
        }
    }

    /// Bytes of the piece in its first `whole` clusters.
    fn whole_bytes(&self, piece: &Piece, whole: u64) -> u64 {
        piece.len.min(whole * self.cluster_size())
    }

    /// Bytes of the piece in its first cluster.
    fn rest_of_cluster(&self, piece: &Piece) -> u64 {
        piece
            .len
            .min((piece.cluster + 1) * self.cluster_size() - piece.at)
    }

    /// Where byte `at` of the disk is in the overlay file.
    pub(super) fn place(&self, at: u64) -> u64 {
        self.header.data_offset + at
    }

    fn write_in_place(
        &mut self,
        memory: &GuestMemory,
        data: &Segments,
        from: u32,
        piece: &Piece,
    ) -> Result<(), BackendError> {
        self.unsynced = true;
        let place = self.place(piece.at);
        Ok(guest_io::write_all_at(
            &self.file,
            memory,
            data,
            from,
            clamp(piece.len),
            place,
        )?)
    }

    /// Brings the first cluster of `piece` into the overlay, after `edit` has changed its bytes from the offset of the
    /// piece in it.
    fn copy_up(
        &mut self,
        piece: &Piece,
        edit: impl FnOnce(usize, &mut [u8]),
    ) -> Result<(), BackendError> {
        let size = self.cluster_size();
        let start = piece.cluster * size;
        let valid = usize::try_from(size.min(self.size() - start)).unwrap_or_default();
        let mut cluster = std::mem::take(&mut self.scratch);
        cluster.resize(usize::try_from(size).unwrap_or_default(), 0);
        cluster.fill(0);
        let copied = self.copy_up_with(piece, start, &mut cluster[..valid], edit);
        self.scratch = cluster;
        copied
    }

    fn copy_up_with(
        &mut self,
        piece: &Piece,
        start: u64,
        cluster: &mut [u8],
        edit: impl FnOnce(usize, &mut [u8]),
    ) -> Result<(), BackendError> {
        match piece.state {
            State::Base => {
                self.reserve(1)?;
                let (found, _) = self.find(piece.cluster, 1);
                if let Some((file, place)) = self.source(found, start) {
                    file.read_exact_at(cluster, place)?;
                }
            }
            State::Zero => self.reserve(1)?,
            State::Data => self.file.read_exact_at(cluster, self.place(start))?,
        }
        edit(
            usize::try_from(piece.at - start).unwrap_or_default(),
            cluster,
        );
        self.unsynced = true;
        self.file.write_all_at(cluster, self.place(start))?;
        self.set(piece.cluster, 1, State::Data);
        Ok(())
    }

    fn zero_in_place(&mut self, cluster: u64, count: u64) -> Result<(), BackendError> {
        let size = self.cluster_size();
        let zeroes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.unsynced = true;
        for cluster in cluster..cluster + count {
            self.file
                .write_all_at(&zeroes, self.place(cluster * size))?;
        }
        Ok(())
    }

    /// Refuses `clusters` more data clusters when they would go over the ceiling.
    fn reserve(&self, clusters: u64) -> Result<(), BackendError> {
        match self.map.data_clusters() + clusters <= self.most_clusters {
            true => Ok(()),
            false => Err(BackendError::NoSpace),
        }
    }

    fn set(&mut self, cluster: u64, count: u64, state: State) {
        (cluster..cluster + count).for_each(|cluster| self.map.set(cluster, state));
    }

    /// Punches a hole over whole clusters; false when the host's file system has no holes.
    fn punch(&mut self, cluster: u64, count: u64) -> Result<bool, BackendError> {
        let size = self.cluster_size();
        let (at, len) = (self.place(cluster * size), count * size);
        self.unsynced = true;
        match fallocate(&self.file, FallocateMode::PunchHole, true, at, len) {
            Ok(()) => Ok(true),
            Err(why) if why.errno() == libc::EOPNOTSUPP => {
                debug!("the file system of the overlay has no holes");
                Ok(false)
            }
            Err(why) => Err(std::io::Error::from(why).into()),
        }
    }
}

/// Lengths inside a request fit 32 bits, because the request does.
fn clamp(len: u64) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl BackendError {
    /// Whether space has run out, by our ceiling or on the host.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace => true,
            Self::Host(why) => {
                matches!(
                    why.kind(),
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded
                )
            }
            Self::ReadOnly => false,
        }
    }
}
