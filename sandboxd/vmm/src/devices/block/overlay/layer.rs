//! Read-only layers below an overlay: overlays that were frozen by a snapshot.
//!
//! ```text
//!   top        written by this machine alone
//!   layer n    frozen last, shared by every clone of that snapshot        a cluster is looked for from the top down;
//!   …                                                                     the first state that is not Base counts
//!   layer 0    frozen first
//!   base       the raw image
//! ```
//!
//! A frozen layer is an ordinary overlay file that nobody opens for writing any more, so freezing copies nothing: a link to the
//! file is the layer. A look-up costs one more map per layer (the maps are in memory, two bits a cluster); at [`MAX_LAYERS`]
//! the next freeze writes one merged layer instead, so a machine that is checkpointed for ever stays as fast as it was.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::backend::BackendError;
use super::{BaseIdentity, Header, Map, Overlay, OverlayError, State, create, load};

/// Most layers between an overlay and its base.
pub const MAX_LAYERS: usize = 8;
/// Bytes copied at a time while layers are merged.
const CHUNK: u64 = 1 << 20;

/// One frozen layer.
#[derive(Debug)]
pub struct Layer {
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) map: Map,
    path: PathBuf,
}

/// Where a cluster's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the base file.
    Base,
    /// Nowhere: zeroes.
    Zero,
    /// In the overlay that takes the writes.
    Top,
    /// In this layer.
    Layer(usize),
}

/// An empty overlay that is about to become the top.
#[derive(Debug)]
pub struct Fresh {
    file: File,
    header: Header,
    map: Map,
}

impl Layer {
    /// Opens the frozen layer at `path` of a disk whose base is `base`.
    ///
    /// # Errors
    /// When it is damaged or belongs to another base.
    pub fn open(path: &Path, base: BaseIdentity, disk_size: u64) -> Result<Self, OverlayError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let len = file.metadata()?.len();
        let (header, map) = load(&file, len, disk_size, base)?;
        Ok(Self {
            file,
            header,
            map,
            path: path.to_owned(),
        })
    }

    /// Where the layer is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The layer itself, whatever became of its path.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that it takes of the host's disk.
    pub fn bytes(&self) -> u64 {
        self.header.data_offset + self.map.data_clusters() * self.header.cluster_size()
    }
}

impl Overlay {
    /// Frozen layers, the oldest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether the top holds nothing: then freezing it would freeze nothing.
    pub fn is_fresh(&self) -> bool {
        self.map.is_fresh()
    }

    /// Where the file of the top is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the bytes of `cluster` are, and for how many clusters from there on, at most `most`.
    pub(super) fn find(&self, cluster: u64, most: u64) -> (Found, u64) {
        let (state, mut run) = self.map.run(cluster, most);
        match state {
            State::Data => return (Found::Top, run),
            State::Zero => return (Found::Zero, run),
            State::Base => {}
        }
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (state, shorter) = layer.map.run(cluster, run);
            run = shorter;
            match state {
                State::Data => return (Found::Layer(index), run),
                State::Zero => return (Found::Zero, run),
                State::Base => {}
            }
        }
        (Found::Base, run)
    }

    /// The file and the place in it of byte `at` of the disk; None for zeroes.
    pub(super) fn source(&self, found: Found, at: u64) -> Option<(&File, u64)> {
        match found {
            Found::Base => Some((&self.base.file, at)),
            Found::Zero => None,
            Found::Top => Some((&self.file, self.place(at))),
            Found::Layer(index) => {
                let layer = self.layers.get(index)?;
                Some((&layer.file, layer.header.data_offset + at))
            }
        }
    }

    /// Makes an empty overlay at `path` that can take over as the top.
    ///
    /// # Errors
    /// When the host fails.
    pub fn make_fresh(&self, path: &Path) -> Result<Fresh, OverlayError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.lock()?;
        let (header, map) = create(&file, self.base.size, self.header.base)?;
        Ok(Fresh { file, header, map })
    }

    /// Makes the top the newest layer, to be found at `frozen`, and `fresh` the top. What the layer takes of the host's disk
    /// no longer is there for the new top: the ceiling is for what this machine has written, frozen or not.
    pub fn freeze(&mut self, frozen: &Path, fresh: Fresh) {
        let used = self.map.data_clusters();
        let Fresh { file, header, map } = fresh;
        let layer = Layer {
            file: std::mem::replace(&mut self.file, file),
            header: std::mem::replace(&mut self.header, header),
            map: std::mem::replace(&mut self.map, map),
            path: frozen.to_owned(),
        };
        self.layers.push(layer);
        self.most_clusters = self.most_clusters.saturating_sub(used);
        self.unsynced = false;
    }

    /// Makes `layers` those below the top, and `fresh` the top; for a disk that goes back to a snapshot.
    pub fn go_back(&mut self, layers: Vec<Layer>, fresh: Fresh, ceiling: u64) {
        let Fresh { file, header, map } = fresh;
        (self.file, self.header, self.map) = (file, header, map);
        self.layers = layers;
        self.most_clusters = ceiling.saturating_sub(self.header.data_offset) / self.cluster_size();
        self.unsynced = false;
        self.lost = false;
    }

    /// Writes all that differs from the base, top and layers together, as one overlay file at `path`.
    ///
    /// # Errors
    /// When the host fails.
    pub fn merge(&self, path: &Path) -> Result<Layer, BackendError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all_at(&self.header.encode(), 0)?;
        file.set_len(self.header.file_size())?;
        let mut map = Map::new(self.header.clusters());
        let mut bytes = Vec::new();
        let size = self.cluster_size();
        let mut cluster = 0;
        while cluster < self.header.clusters() {
            let (found, run) = self.find(cluster, (CHUNK / size).max(1));
            let at = cluster * size;
            let len = (run * size).min(self.size() - at);
            let state = match (found, self.source(found, at)) {
                (Found::Base, _) => State::Base,
                (_, None) => State::Zero,
                (_, Some((source, place))) => {
                    bytes.resize(usize::try_from(len).unwrap_or_default(), 0);
                    source.read_exact_at(&mut bytes, place)?;
                    file.write_all_at(&bytes, self.place(at))?;
                    State::Data
                }
            };
            (cluster..cluster + run).for_each(|cluster| map.set(cluster, state));
            cluster += run;
        }
        let mut from = 0;
        while let Some((index, page)) = map.next_dirty(from) {
            file.write_all_at(page, self.header.map_page_offset(index))?;
            from = index + 1;
        }
        Ok(Layer {
            file,
            header: self.header,
            map,
            path: path.to_owned(),
        })
    }

    /// Makes one merged layer the only one, and `fresh` the top.
    pub fn freeze_merged(&mut self, merged: Layer, fresh: Fresh) {
        let used = self.map.data_clusters();
        let Fresh { file, header, map } = fresh;
        (self.file, self.header, self.map) = (file, header, map);
        self.layers = vec![merged];
        self.most_clusters = self.most_clusters.saturating_sub(used);
        self.unsynced = false;
    }
}

impl Layer {
    /// The same layer under another name, after its file was moved there.
    pub fn moved(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}
