//! Our own `microvm`, through its control protocol, as the daemon uses it.

use std::path::{Path, PathBuf};

use agent_protocol::control::Depth;
use anyhow::Result;
use vmm::config::{DiskConfig, MachineConfig, SerialConfig, VsockConfig};
use vmm::control::{
    Booted, Client, DiskOverride, Op, Ready as Prepared, Recorded, RestoreArgs, Restored,
    RollbackArgs, SnapshotArgs, Snapshotted, StageArgs,
};
use vmm::machine::Shape;
use vmm::snapshot::Kind;

use super::machine::{Laps, Machine, Staged, Started};
use super::process::{Folder, Process};
use super::watch::Watch;
use super::{PATIENCE, agent, files};
use crate::commands::peers::plan::Plan;
use crate::commands::peers::record::Stages;

const SOCKET: &str = "c";
const VSOCK: &str = "v";
const OVERLAY: &str = "overlay.cow";
/// Name of the writable disk.
const WRITABLE: &str = "overlay";
/// The file with guest memory, in a snapshot's folder.
pub const MEMORY: &str = "memory.0";

/// Where machines come from.
#[derive(Debug)]
pub struct Template {
    program: PathBuf,
    dir: PathBuf,
    shape: Shape,
}

impl Template {
    /// Boots a guest, warms it, takes its snapshot, and notes in a clone what a first call touches.
    ///
    /// # Errors
    /// When the guest does not come up or something is refused.
    pub fn make(plan: &Plan, memory_mib: u32, base: &Path) -> Result<Self> {
        let dir = base.join(format!("microvm-{memory_mib}"));
        let folder = Folder::new(base)?;
        let config = config(plan, memory_mib, &folder);
        let mut vm = Vm::spawn(&plan.microvm, folder, &dir, &mut Laps::start())?;
        let template = Self {
            program: plan.microvm.clone(),
            dir: dir.clone(),
            shape: Shape::of(&config),
        };
        vm.control.call::<Booted>(Op::Boot(Box::new(config)))?;
        agent::bring_up(&vm.vsock, &plan.session, Depth::Template)?;
        vm.pause()?;
        vm.snapshot(Kind::Full, &dir)?;
        drop(vm);
        let mut clone = Vm::spawn(&plan.microvm, Folder::new(base)?, &dir, &mut Laps::start())?;
        clone.restore(true, &mut Laps::start())?;
        agent::bring_up(&clone.vsock, &plan.session, Depth::FirstCall)?;
        clone.control.call::<Recorded>(Op::Record)?;
        Ok(template)
    }

    /// Removes the snapshot.
    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Bytes of the snapshot.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn bytes(&self) -> Result<u64> {
        files::taken(&self.dir)
    }

    /// A folder for a new machine, and the process for it when it is to be `prepared`.
    ///
    /// # Errors
    /// When the process does not come up.
    pub fn stage(&self, base: &Path, prepared: bool) -> Result<Box<dyn Staged>> {
        let folder = Folder::new(base)?;
        if !prepared {
            return Ok(Box::new(Cold {
                program: self.program.clone(),
                template: self.dir.clone(),
                folder,
            }));
        }
        let mut vm = Vm::spawn(&self.program, folder, &self.dir, &mut Laps::start())?;
        let shape = Op::Prepare(Box::new(self.shape.clone()));
        vm.control.call::<Prepared>(shape)?;
        let args = StageArgs {
            dir: self.dir.clone(),
        };
        vm.control.call::<Prepared>(Op::Stage(Box::new(args)))?;
        Ok(Box::new(vm))
    }
}

/// The machine of the daemon, with one processor.
fn config(plan: &Plan, memory_mib: u32, folder: &Folder) -> MachineConfig {
    let disk = |id: &str, path: &Path, overlay: Option<PathBuf>| DiskConfig {
        id: id.into(),
        path: path.into(),
        read_only: overlay.is_none(),
        overlay,
        overlay_max_bytes: None,
        snapshot: None,
    };
    MachineConfig {
        vcpus: 1,
        memory_mib,
        kernel: plan.kernel.clone(),
        cmdline_extra: String::new(),
        disks: vec![
            disk("agent", &plan.agent_disk, None),
            disk("rootfs", &plan.rootfs, None),
            disk(WRITABLE, &plan.overlay, Some(folder.path(OVERLAY))),
        ],
        vsock: Some(VsockConfig {
            guest_cid: 3,
            uds_path: folder.path(VSOCK),
        }),
        net: None,
        serial: Some(serial(folder)),
        rng: true,
        balloon: true,
    }
}

fn serial(folder: &Folder) -> SerialConfig {
    SerialConfig {
        path: folder.path("serial"),
        max_bytes: 1 << 20,
    }
}

struct Cold {
    program: PathBuf,
    template: PathBuf,
    folder: Folder,
}

impl Staged for Cold {
    fn start(self: Box<Self>, laps: &mut Laps) -> Result<Started> {
        let vm = Vm::spawn(&self.program, self.folder, &self.template, laps)?;
        Box::new(vm).start(laps)
    }
}

struct Vm {
    // Before the folder that it runs in.
    process: Process,
    control: Client,
    vsock: PathBuf,
    template: PathBuf,
    folder: Folder,
}

impl Vm {
    fn spawn(program: &Path, folder: Folder, template: &Path, laps: &mut Laps) -> Result<Self> {
        let watch = Watch::new(&folder)?;
        let args = ["--id", "peer", "--control", SOCKET];
        let mut process = Process::spawn(program, &args, &folder)?;
        laps.lap("spawn");
        let socket = watch.wait_for(&folder, SOCKET, &mut process)?;
        let control = Client::connect(&socket, PATIENCE)?;
        laps.lap("socket");
        Ok(Self {
            process,
            control,
            vsock: folder.path(VSOCK),
            template: template.to_owned(),
            folder,
        })
    }

    fn restore(&mut self, record: bool, laps: &mut Laps) -> Result<()> {
        let overlay = DiskOverride {
            overlay: Some(self.folder.path(OVERLAY)),
            ..DiskOverride::default()
        };
        let args = RestoreArgs {
            dir: self.template.clone(),
            disks: [(WRITABLE.to_owned(), overlay)].into(),
            vsock: Some(self.vsock.clone()),
            id: None,
            tap: None,
            serial: Some(serial(&self.folder)),
            resume: true,
            verify: false,
            record,
        };
        let restored: Restored = self.control.call(Op::Restore(Box::new(args)))?;
        laps.lap("restore");
        laps.stages.extend(inner(restored.stages));
        Ok(())
    }
}

/// What the process tells of its stages, marked as such.
fn inner(stages: vmm::snapshot::Stages) -> Stages {
    let stages = stages.0.into_iter();
    stages
        .map(|(name, ns)| (format!("vmm:{name}"), ns))
        .collect()
}

impl Staged for Vm {
    fn start(mut self: Box<Self>, laps: &mut Laps) -> Result<Started> {
        self.restore(false, laps)?;
        let retries = agent::first_answer(&self.vsock)?;
        laps.lap("answer");
        Ok(Started {
            machine: self,
            retries,
        })
    }
}

impl Machine for Vm {
    fn process_id(&self) -> u32 {
        self.process.id()
    }

    fn vsock(&self) -> &Path {
        &self.vsock
    }

    fn pause(&mut self) -> Result<()> {
        Ok(self.control.order(Op::Pause)?)
    }

    fn resume(&mut self) -> Result<()> {
        Ok(self.control.order(Op::Resume)?)
    }

    fn snapshot(&mut self, kind: Kind, dir: &Path) -> Result<Stages> {
        let args = SnapshotArgs {
            dir: dir.to_owned(),
            kind,
            memory: true,
            kernel: String::new(),
            image: String::new(),
            sync: false,
            checksum: false,
            rebase: false,
        };
        let written = self.control.call(Op::Snapshot(Box::new(args)));
        let written: Snapshotted = written?;
        Ok(inner(written.stages))
    }

    fn roll_back(&mut self) -> Option<Result<Stages>> {
        let args = RollbackArgs {
            dir: self.template.clone(),
            resume: true,
        };
        let done = self.control.call(Op::Rollback(Box::new(args)));
        Some(
            done.map(|back: Restored| inner(back.stages))
                .map_err(Into::into),
        )
    }
}
