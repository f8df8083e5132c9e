//! Going on as a machine that was written down, in a process that waits for it.
//!
//! ```text
//!   memory mapped ─► virtual CPUs, interrupt controllers, clock ─► working set brought in ─► devices made with their own files ─► registers and queues
//!                 ─► new generation id, its interrupt raised ─► resume
//!
//!   staged ahead:    memory mapped ─► working set brought in            the restore then begins with the CPUs
//! ```
//!
//! Ordering rules:
//! 1. Interrupt controllers come before devices: a device that goes on may raise an interrupt at once.
//! 2. The generation id comes before the first instruction of the guest, so that it cannot draw random numbers under the old.
//! 3. Nothing of the guest's bytes is looked at before the state was checked; memory itself is never looked at.

use std::sync::Arc;

use super::builder::{Board, BuildError};
use super::devices::Devices;
use super::prepared::Prepared;
use super::save::Base;
use super::shape::Shape;
use super::{Machine, prefetch};
use crate::arch::x86_64::{vcpu_state, vm_state};
use crate::config::MachineConfig;
use crate::control::RestoreArgs;
use crate::devices::vmgenid::VmGenId;
use crate::memory::place;
use crate::memory::record::Recording;
use crate::snapshot::stages::Stopwatch;
use crate::snapshot::working_set::WorkingSet;
use crate::snapshot::{Opened, layers};
use crate::sync::lock;

/// The configuration of a machine that goes on from `opened` with `args`.
///
/// # Errors
/// When `args` leave out or add something.
pub fn plan(opened: &Opened, args: &RestoreArgs) -> Result<MachineConfig, BuildError> {
    configure(&opened.manifest.machine, args)
}

/// Refuses a snapshot that `prepared` cannot become.
///
/// # Errors
/// When it was prepared for another shape, or the snapshot comes from another processor.
pub fn fits(prepared: &Prepared, opened: &Opened) -> Result<(), BuildError> {
    let wanted = Shape::of(&opened.manifest.machine);
    if prepared.shape != wanted {
        return Err(BuildError::OtherShape {
            prepared: Box::new(prepared.shape.clone()),
            wanted: Box::new(wanted),
        });
    }
    Ok(opened.check_cpu(&prepared.cpu)?)
}

/// Puts the memory of `opened`, which fits, under `prepared` and brings its working set in, ahead of the restore.
///
/// The pages that the guest will write become this process's own here: that is what a staged process costs.
///
/// # Errors
/// When the host fails; memory is neither blank nor the snapshot's then.
pub fn stage(
    prepared: &Prepared,
    opened: &Opened,
    watch: &mut Stopwatch,
) -> Result<(), BuildError> {
    layers::lay(&prepared.memory, &opened.state.extents, &opened.memory)
        .map_err(BuildError::Lay)?;
    watch.lap("memory");
    bring_in(prepared, opened, watch);
    Ok(())
}

/// Takes away what [`stage`] put under `prepared`.
///
/// # Errors
/// When the host fails; memory is neither blank nor the snapshot's then.
pub fn unstage(prepared: &Prepared) -> Result<(), BuildError> {
    place::blank(&prepared.memory).map_err(BuildError::Lay)
}

fn bring_in(prepared: &Prepared, opened: &Opened, watch: &mut Stopwatch) {
    if let Some(set) = &opened.working_set
        && let Some(fd) = prepared.vcpus.still().first()
    {
        prefetch::bring_in(&prepared.memory, fd, set);
        watch.lap("prefetch");
    }
}

/// How a restore is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From memory on.
    Whole,
    /// The same, with exact books of the pages that the guest touches.
    Recorded,
    /// From what [`stage`] left on.
    Staged,
}

/// Makes `prepared` the machine in `opened`, which fits, with what `config` has of its own; it does not run yet.
///
/// # Errors
/// The first step that failed; what was prepared is gone then.
pub fn restore(
    mut prepared: Prepared,
    opened: &Opened,
    config: MachineConfig,
    order: Order,
    watch: &mut Stopwatch,
) -> Result<Machine, BuildError> {
    let memory = Arc::clone(&prepared.memory);
    let state = &opened.state;
    if order != Order::Staged {
        layers::lay(&memory, &state.extents, &opened.memory).map_err(BuildError::Lay)?;
        watch.lap("memory");
    }
    let record = order == Order::Recorded;
    let recording = record.then(|| Recording::start(&memory)).transpose();
    let recording = recording.map_err(BuildError::Record)?;
    for (fd, state) in prepared.vcpus.still().iter().zip(&state.vcpus) {
        vcpu_state::restore(fd, state)?;
    }
    vm_state::restore(&prepared.vm, &state.vm)?;
    watch.lap("cpus");
    if order == Order::Whole {
        bring_in(&prepared, opened, watch);
    }
    let devices = Devices::restore(
        &config,
        &state.board.devices,
        &opened.disk_layers(),
        &memory,
    )?;
    watch.lap("devices");
    let generation_id = VmGenId::restored(memory, Arc::clone(&prepared.event_line));
    let board = Board::new(&prepared, config.serial.as_ref(), &devices)?;
    lock(&board.serial).restore(&state.board.serial);
    prepared.restrict()?;
    let base = Some(Base::of(opened).map_err(BuildError::Lay)?);
    let mut machine = board.assemble(prepared, config, devices, generation_id, base)?;
    machine.recording = recording;
    machine.go_on(opened)?;
    watch.lap("queues");
    Ok(machine)
}

impl Machine {
    /// Writes down which pages were touched since the restore, into the folder that the machine was restored from, and ends
    /// the recording. Returns bytes read and bytes written.
    ///
    /// # Errors
    /// When nothing was recorded, or the host fails.
    pub fn save_working_set(&mut self) -> Result<(u64, u64), BuildError> {
        let none = || BuildError::Record(std::io::ErrorKind::NotFound.into());
        let recording = self.recording.take().ok_or_else(none)?;
        let base = self.base.as_ref().ok_or_else(none)?;
        let set = WorkingSet::of(&self.memory, &self.pagemap).map_err(BuildError::Record)?;
        drop(recording);
        set.save(base.dir(), base.id())?;
        Ok(set.bytes())
    }

    /// Gives registers and queues back to the devices, and the guest a new generation id.
    pub(super) fn go_on(&self, opened: &Opened) -> Result<(), BuildError> {
        let board = &opened.state.board;
        let queues = board.devices.queues();
        if board.transports.len() != self.transports.len() || queues.len() != self.transports.len()
        {
            return Err(super::DeviceError::Contradiction.into());
        }
        for ((transport, state), queues) in
            self.transports.iter().zip(&board.transports).zip(&queues)
        {
            lock(transport).restore(state, queues.as_deref())?;
        }
        Ok(self.generation_id.regenerate()?)
    }
}

/// The configuration of a restored machine: that of the saved one, with files and sockets of its own.
fn configure(saved: &MachineConfig, args: &RestoreArgs) -> Result<MachineConfig, BuildError> {
    let mut config = saved.clone();
    let unused = |what: String| Err(BuildError::UnusedOverride(what));
    for id in args.disks.keys() {
        if !config.disks.iter().any(|disk| disk.id == *id) {
            return unused(format!("disk {id}"));
        }
    }
    for disk in &mut config.disks {
        let own = args.disks.get(&disk.id).cloned().unwrap_or_default();
        if let Some(path) = own.path {
            disk.path = path;
        }
        match (disk.read_only, own.overlay) {
            (true, Some(_)) => return unused(format!("overlay of disk {}", disk.id)),
            (true, None) => {}
            (false, None) => {
                let what = format!("the writable disk {}", disk.id);
                return Err(BuildError::MissingOverride(what));
            }
            (false, Some(overlay)) => {
                disk.overlay = Some(overlay);
                disk.overlay_max_bytes = own.overlay_max_bytes.or(disk.overlay_max_bytes);
            }
        }
    }
    match (&mut config.vsock, &args.vsock) {
        (None, None) => {}
        (Some(vsock), Some(path)) => vsock.uds_path.clone_from(path),
        (None, Some(_)) => return unused("vsock device".into()),
        (Some(_), None) => return Err(BuildError::MissingOverride("a vsock device".into())),
    }
    match (&mut config.net, &args.tap) {
        (None, None) => {}
        (Some(net), Some(tap)) => net.tap.clone_from(tap),
        (None, Some(_)) => return unused("network card".into()),
        (Some(_), None) => return Err(BuildError::MissingOverride("a network card".into())),
    }
    config.serial.clone_from(&args.serial);
    config.validate()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> MachineConfig {
        let text = r#"{"vcpus":1,"memory_mib":64,"kernel":"/k",
            "disks":[{"id":"a","path":"/a","read_only":true},
                     {"id":"o","path":"/o","read_only":false,"overlay":"/o.cow","overlay_max_bytes":7}],
            "vsock":{"guest_cid":3,"uds_path":"/v"},"net":{"tap":"t0","mac":"06:00:00:00:00:01"},
            "serial":{"path":"/s","max_bytes":4096}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn configured(args: &str) -> Result<MachineConfig, String> {
        let args = serde_json::from_str(args).unwrap();
        configure(&saved(), &args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_must_not_be_shared_is_replaced() {
        let config = configured(
            r#"{"dir":"/d","disks":{"o":{"overlay":"/n.cow"},"a":{"path":"/b"}},"vsock":"/w","tap":"t1"}"#,
        );
        let config = config.unwrap();
        assert_eq!(config.disks[0].path.to_str(), Some("/b"));
        let top = &config.disks[1];
        assert_eq!(
            top.overlay.as_deref().and_then(|path| path.to_str()),
            Some("/n.cow")
        );
        assert_eq!(top.overlay_max_bytes, Some(7));
        assert_eq!(config.vsock.unwrap().uds_path.to_str(), Some("/w"));
        assert_eq!(
            (config.net.unwrap().tap, config.serial),
            ("t1".into(), None)
        );
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let words = |args: &str| configured(args).unwrap_err();
        assert!(words(r#"{"dir":"/d"}"#).contains("the writable disk o"));
        let own = r#""disks":{"o":{"overlay":"/n"}}"#;
        assert!(words(&format!(r#"{{"dir":"/d",{own}}}"#)).contains("a vsock device"));
        assert!(words(&format!(r#"{{"dir":"/d",{own},"vsock":"/w"}}"#)).contains("a network card"));
        assert!(words(r#"{"dir":"/d","disks":{"x":{}}}"#).contains("no disk x"));
        assert!(
            words(r#"{"dir":"/d","disks":{"a":{"overlay":"/n"}}}"#)
                .contains("no overlay of disk a")
        );
    }
}
