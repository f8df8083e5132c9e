//! Writing a machine down: memory, disks and devices as they stand at one instant.
//!
//! ```text
//!   virtual CPUs stand still ─► every device locked ─► state ─► memory ─► disks linked ─► manifest ─► rename ─► disks frozen
//! ```
//!
//! Ordering rules:
//! 1. While a device is locked the event loop waits for it, so nothing of the machine changes from the first lock to the last
//!    byte. Requests that a guest has queued and no device has taken stay in its rings: they are served by whoever goes on.
//! 2. Disks are frozen last. Until the folder has its name, an overlay only has one more link; when something fails before
//!    that, the machine goes on with it as if nothing had happened.
//! 3. Once the folder has its name, the overlay's file belongs to the snapshot and is not written any more: a new, empty
//!    one takes its place before any device is let go.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use super::Machine;
use super::devices::DevicesState;
use crate::arch::x86_64::{vcpu_state, vm_state};
use crate::config::MachineConfig;
use crate::control::{ExitReason, SnapshotArgs, Snapshotted};
use crate::devices::block::overlay::{Fresh, Layer, MAX_LAYERS};
use crate::devices::block::{BackendError, Block};
use crate::memory::pagemap::Which;
use crate::memory::place;
use crate::snapshot::extents::{Extent, Extents, Source};
use crate::snapshot::stages::Stopwatch;
use crate::snapshot::state::BoardState;
use crate::snapshot::{
    DiskLayers, FileEntry, Folder, Kind, MAX_MEMORY_LAYERS, Manifest, Opened, SavedState,
    SnapshotError, StateError, keep, layers, link_or_copy, manifest, state,
};
use crate::sync::lock;

/// Why a machine could not be written down. It goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The files.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A virtual CPU.
    #[error(transparent)]
    Vcpu(#[from] vcpu_state::VcpuStateError),
    /// Interrupt controllers and clock.
    #[error(transparent)]
    Vm(#[from] vm_state::VmStateError),
    /// The state could not be put into bytes.
    #[error(transparent)]
    State(#[from] StateError),
    /// The host does not say which pages are the guest's own.
    #[error("the host does not tell which pages changed: {0}")]
    Pagemap(std::io::Error),
    /// A disk.
    #[error("disk {id} could not be frozen: {error}")]
    Disk {
        /// Its name.
        id: String,
        /// Why.
        error: BackendError,
    },
    /// A new overlay.
    #[error("disk {id} could not be given a new overlay: {error}")]
    Overlay {
        /// Its name.
        id: String,
        /// Why.
        error: crate::devices::block::overlay::OverlayError,
    },
    /// There is no randomness for a name.
    #[error("the host has no random bytes for a name: {0}")]
    Random(#[from] getrandom::Error),
}

/// The snapshot whose pages lie under a machine's memory.
///
/// Its files stay open: whoever owns the folder may delete it while the machine runs.
#[derive(Debug)]
pub struct Base {
    id: String,
    dir: PathBuf,
    extents: Extents,
    layers: Vec<FileEntry>,
    files: Vec<File>,
}

impl Base {
    /// Name of the snapshot.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The base of a machine that goes on from `opened`.
    ///
    /// # Errors
    /// When this process has no more file descriptors.
    pub fn of(opened: &Opened) -> std::io::Result<Self> {
        let files: Result<_, _> = opened.memory.iter().map(File::try_clone).collect();
        Ok(Self {
            id: opened.manifest.id.clone(),
            dir: opened.dir.clone(),
            extents: opened.state.extents.clone(),
            layers: opened.manifest.memory.clone(),
            files: files?,
        })
    }
}

/// A disk on its way to a new top.
struct Change {
    next: PathBuf,
    frozen: PathBuf,
    fresh: Fresh,
    merged: Option<Layer>,
}

/// New overlay files, removed again unless they are used.
#[derive(Default)]
struct Pending(Vec<Option<Change>>);

impl Drop for Pending {
    fn drop(&mut self) {
        for change in self.0.iter().flatten() {
            let _ = std::fs::remove_file(&change.next);
        }
    }
}

impl Machine {
    /// Writes the machine down. It stands still and goes on standing still.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub fn snapshot(&mut self, args: &SnapshotArgs) -> Result<Snapshotted, SaveError> {
        let mut watch = Stopwatch::start();
        let mut disks: Vec<_> = self.devices.disks.iter().map(|disk| lock(disk)).collect();
        let vsock = self.devices.vsock.as_ref().map(|device| lock(device));
        let net = self.devices.net.as_ref().map(|device| lock(device));
        let rng = self.devices.rng.as_ref().map(|device| lock(device));
        let balloon = self.devices.balloon.as_ref().map(|device| lock(device));
        watch.lap("lock");
        let fds = self.vcpus.still();
        let vcpus: Result<Vec<_>, _> = fds
            .iter()
            .map(|fd| vcpu_state::save(fd, &self.msr_indices))
            .collect();
        let board = BoardState {
            serial: lock(&self.serial).state(),
            transports: self.transports.iter().map(|t| lock(t).state()).collect(),
            devices: DevicesState {
                disks: disks.iter().map(|disk| disk.state()).collect(),
                vsock: vsock.as_ref().map(|device| device.state()),
                net: net.as_ref().map(|device| device.state()),
                rng: rng.as_ref().map(|device| device.state()),
                balloon: balloon.as_ref().map(|device| device.state()),
            },
            wall_ns: wall_ns(),
        };
        let mut saved = SavedState {
            board,
            extents: Extents::default(),
            vm: vm_state::save(&self.vm)?,
            vcpus: vcpus?,
        };
        watch.lap("state");
        let folder = Folder::create(&args.dir, args.sync)?;
        let base = self.base.as_ref().filter(|_| args.kind == Kind::Diff);
        let base = base.filter(|base| base.layers.len() < MAX_MEMORY_LAYERS);
        let kind = match (args.memory, base) {
            (false, _) => Kind::Disk,
            (true, None) => Kind::Full,
            (true, Some(_)) => Kind::Diff,
        };
        let mut manifest = Manifest::new(kind, self.cpu.clone(), self.config.clone());
        for disk in &mut manifest.machine.disks {
            // Its layers are in this folder now.
            disk.snapshot = None;
        }
        manifest.id = random_id()?;
        manifest.parent = base.filter(|_| args.memory).map(|base| base.id.clone());
        manifest.kernel.clone_from(&args.kernel);
        manifest.image.clone_from(&args.image);
        let mut written = 0;
        if args.memory {
            let (bytes, file) = self.write_memory(&folder, base, &mut manifest, &mut saved)?;
            written = bytes;
            watch.lap("memory");
            if args.checksum
                && let Some(entry) = manifest.memory.last_mut()
            {
                let path = folder.path(&entry.name);
                let crc = layers::checksum(&file).map_err(SnapshotError::file(&path))?;
                entry.crc32 = Some(crc);
                watch.lap("checksum");
            }
            let synced = folder.finish(&file);
            synced.map_err(SnapshotError::file(&folder.path("memory")))?;
        }
        let mut pending = Pending::default();
        let mut disk_bytes = 0;
        for disk in &mut disks {
            let layers = link_layers(&folder, disk, args.sync)?;
            let change = freeze(&folder, disk, layers, &mut manifest)?;
            if change.is_some() {
                disk_bytes += disk.overlay_mut().map_or(0, |overlay| overlay.bytes());
            }
            pending.0.push(change);
        }
        watch.lap("disks");
        if args.memory {
            let bytes = saved.encode()?;
            manifest.state.bytes = bytes.len() as u64;
            folder.write(state::NAME, &bytes)?;
        }
        let manifest_text = manifest.encode();
        // What is written must be readable: a machine that a restore would refuse is refused here.
        Manifest::decode(&manifest_text).map_err(|error| SnapshotError::Manifest {
            dir: args.dir.clone(),
            error,
        })?;
        folder.write(manifest::NAME, &manifest_text)?;
        folder.commit()?;
        watch.lap("commit");
        for (disk, change) in disks.iter_mut().zip(pending.0.drain(..)) {
            swap_top(disk, change);
        }
        watch.lap("freeze");
        let (id, parent) = (manifest.id.clone(), manifest.parent.clone());
        let memory_layers = manifest.memory.len();
        if args.rebase && args.memory {
            let mut base = Base {
                id: id.clone(),
                dir: args.dir.clone(),
                extents: saved.extents,
                layers: manifest.memory,
                files: Vec::new(),
            };
            if let Err(why) = rebase(&self.memory, &mut base) {
                let words = format!("memory could not be laid over the new snapshot: {why}");
                self.exit.set(ExitReason::Error, &words);
            }
            self.base = Some(base);
            watch.lap("rebase");
        }
        Ok(Snapshotted {
            id,
            parent,
            kind,
            memory_layers,
            memory_bytes: written,
            disk_bytes,
            stages: watch.finish(),
        })
    }

    /// Writes the newest memory layer and links those below it. Returns how many bytes were written, and the file.
    fn write_memory(
        &self,
        folder: &Folder,
        base: Option<&Base>,
        manifest: &mut Manifest,
        saved: &mut SavedState,
    ) -> Result<(u64, File), SaveError> {
        let own = self.pagemap.find(&self.memory, Which::Own);
        let own = own.map_err(SaveError::Pagemap)?;
        if let Some(base) = base {
            for (entry, file) in base.layers.iter().zip(&base.files) {
                let from = base.dir.join(&entry.name);
                keep(file, &from, &folder.path(&entry.name)).map_err(SnapshotError::file(&from))?;
                manifest.memory.push(entry.clone());
            }
        }
        let layer = u32::try_from(manifest.memory.len()).unwrap_or(u32::MAX);
        let ranges = match (base, &self.base) {
            (None, Some(below)) => everything(&below.extents, &own),
            (Some(base), _) => layers::changed(&base.extents, &own),
            (None, None) => own,
        };
        let name = format!("memory.{layer}");
        let file = folder.file(&name)?;
        let written = layers::write(&self.memory, &ranges, &file, layer, base.is_some())
            .map_err(SnapshotError::file(&folder.path(&name)))?;
        saved.extents = match base {
            Some(base) => base.extents.overlaid(&written.extents),
            None => written.extents,
        };
        manifest.memory.push(FileEntry {
            name,
            bytes: place::size(&self.memory),
            crc32: None,
        });
        Ok((written.bytes, file))
    }
}

/// Own pages and those of the snapshot below.
fn everything(below: &Extents, own: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let source = Source::Layer(0);
    let own: Extents = own
        .iter()
        .map(|&(at, len)| Extent { at, len, source })
        .collect();
    let all = below.overlaid(&own);
    all.as_slice().iter().map(|e| (e.at, e.len)).collect()
}

/// Lays a machine's memory over the snapshot that was just written of it.
fn rebase(memory: &crate::devices::virtio::GuestMemory, base: &mut Base) -> std::io::Result<()> {
    let files: Result<Vec<_>, _> = base
        .layers
        .iter()
        .map(|entry| File::open(base.dir.join(&entry.name)))
        .collect();
    base.files = files?;
    place::blank(memory)?;
    layers::lay(memory, &base.extents, &base.files)
}

/// Puts the frozen layers of a disk into the folder, and its map into its overlay.
fn link_layers(
    folder: &Folder,
    disk: &mut MutexGuard<'_, Block>,
    sync: bool,
) -> Result<Vec<FileEntry>, SaveError> {
    let id = disk.id().to_owned();
    let Some(overlay) = disk.overlay_mut() else {
        return Ok(Vec::new());
    };
    let settled = match sync {
        true => overlay.flush(),
        false => overlay.settle(),
    };
    settled.map_err(|error| SaveError::Disk {
        id: id.clone(),
        error,
    })?;
    if overlay.layers().len() == MAX_LAYERS && !overlay.is_fresh() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for (index, layer) in overlay.layers().iter().enumerate() {
        let name = format!("disk-{id}.{index}");
        keep(layer.file(), layer.path(), &folder.path(&name))
            .map_err(SnapshotError::file(layer.path()))?;
        entries.push(entry_of(folder, name)?);
    }
    Ok(entries)
}

/// Links the overlay of a disk into the folder, or merges it with its layers when there are many, and makes the overlay that
/// will take its place. None when there is nothing to freeze, or what was frozen is a copy.
fn freeze(
    folder: &Folder,
    disk: &mut MutexGuard<'_, Block>,
    mut entries: Vec<FileEntry>,
    manifest: &mut Manifest,
) -> Result<Option<Change>, SaveError> {
    let id = disk.id().to_owned();
    let Some(overlay) = disk.overlay_mut() else {
        return Ok(None);
    };
    let mut change = None;
    if !overlay.is_fresh() {
        let name = format!("disk-{id}.{}", entries.len());
        let (path, frozen) = (folder.path(&name), folder.final_path(&name));
        let many = overlay.layers().len() == MAX_LAYERS;
        let merged = many.then(|| overlay.merge(&path)).transpose();
        let merged = merged.map_err(|error| SaveError::Disk {
            id: id.clone(),
            error,
        })?;
        let same = match &merged {
            Some(_) => true,
            None => {
                link_or_copy(overlay.path(), &path).map_err(SnapshotError::file(overlay.path()))?
            }
        };
        if same {
            let next = next_of(overlay.path());
            let _ = std::fs::remove_file(&next);
            let fresh = overlay
                .make_fresh(&next)
                .map_err(|error| SaveError::Overlay {
                    id: id.clone(),
                    error,
                })?;
            change = Some(Change {
                next,
                frozen,
                fresh,
                merged,
            });
        }
        entries.push(entry_of(folder, name)?);
    }
    manifest.disks.push(DiskLayers {
        id,
        layers: entries,
    });
    Ok(change)
}

/// Gives a disk its new top; its old one is a layer from now on.
fn swap_top(disk: &mut MutexGuard<'_, Block>, change: Option<Change>) {
    let (Some(overlay), Some(change)) = (disk.overlay_mut(), change) else {
        return;
    };
    let path = overlay.path().to_owned();
    let _ = std::fs::set_permissions(&change.frozen, Permissions::from_mode(0o400));
    match change.merged {
        Some(merged) => overlay.freeze_merged(merged.moved(&change.frozen), change.fresh),
        None => overlay.freeze(&change.frozen, change.fresh),
    }
    if let Err(why) = std::fs::rename(&change.next, &path) {
        tracing::warn!(%why, path = %path.display(), "a new overlay keeps its temporary name");
    }
}

/// Where a new overlay is made before it takes the place of the one at `path`.
pub(super) fn next_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

fn entry_of(folder: &Folder, name: String) -> Result<FileEntry, SnapshotError> {
    let path = folder.path(&name);
    let metadata = std::fs::metadata(&path).map_err(SnapshotError::file(&path))?;
    Ok(FileEntry {
        name,
        bytes: metadata.len(),
        crc32: None,
    })
}

fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn wall_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Keeps the configuration in step with what is restored.
pub(super) fn same_devices(here: &MachineConfig, saved: &MachineConfig) -> bool {
    let disks = |config: &MachineConfig| -> Vec<(String, bool)> {
        let disks = config.disks.iter();
        disks
            .map(|disk| (disk.id.clone(), disk.read_only))
            .collect()
    };
    let cid = |config: &MachineConfig| config.vsock.as_ref().map(|vsock| vsock.guest_cid);
    let mac = |config: &MachineConfig| config.net.as_ref().map(|net| net.mac.clone());
    disks(here) == disks(saved) && cid(here) == cid(saved) && mac(here) == mac(saved)
}
