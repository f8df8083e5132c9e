//! Firecracker: its API, a template, machines from it.
//!
//! A restored machine opens the paths that its snapshot names. Those that machines must not share (vsock, writable disk)
//! are therefore relative, and every process has a folder of its own, with a copy of the writable disk as it was at the
//! snapshot. Making that copy is not timed.

use std::path::{Path, PathBuf};

use agent_protocol::control::Depth;
use anyhow::{Context, Result, bail};
use serde_json::json;
use vmm::snapshot::Kind;

use super::http::Api;
use super::machine::{Laps, Machine, Staged, Started};
use super::process::{Folder, Process};
use super::watch::{self, Watch};
use super::{PATIENCE, agent, files};
use crate::commands::peers::plan::Plan;
use crate::commands::peers::record::Stages;

const SOCKET: &str = "api";
const VSOCK: &str = "v";
const OVERLAY: &str = "overlay";
const STATE: &str = "state";
/// The file with guest memory, in a snapshot's folder.
pub const MEMORY: &str = "memory";

/// Where machines come from.
#[derive(Debug)]
pub struct Template {
    program: PathBuf,
    /// Folder of the snapshot and of the writable disk as it was then.
    dir: PathBuf,
}

impl Template {
    /// Boots a guest, warms it and takes its snapshot.
    ///
    /// # Errors
    /// When the guest does not come up or something is refused.
    pub fn make(plan: &Plan, memory_mib: u32, base: &Path) -> Result<Self> {
        let folder = Folder::new(base)?;
        files::copy_sparse(&plan.overlay, &folder.path(OVERLAY))?;
        let mut machine = Vm::spawn(&plan.firecracker, folder, &mut Laps::start())?;
        let disk = |id: &str, path: &Path, read_only: bool| {
            let body = json!({"drive_id": id, "path_on_host": path, "is_root_device": false, "is_read_only": read_only});
            (format!("/drives/{id}"), body)
        };
        let reporting =
            json!({"amount_mib": 0, "deflate_on_oom": false, "free_page_reporting": true});
        let calls = [
            (
                "/machine-config".to_owned(),
                json!({"vcpu_count": 1, "mem_size_mib": memory_mib}),
            ),
            (
                "/boot-source".to_owned(),
                json!({"kernel_image_path": plan.kernel, "boot_args": vmm::kernel::CMDLINE}),
            ),
            disk("agent", &plan.agent_disk, true),
            disk("rootfs", &plan.rootfs, true),
            disk("overlay", Path::new(OVERLAY), false),
            (
                "/vsock".to_owned(),
                json!({"guest_cid": 3, "uds_path": VSOCK}),
            ),
            ("/entropy".to_owned(), json!({})),
            ("/balloon".to_owned(), reporting),
            (
                "/actions".to_owned(),
                json!({"action_type": "InstanceStart"}),
            ),
        ];
        for (path, body) in calls {
            machine.api.call("PUT", &path, &body)?;
        }
        agent::bring_up(&machine.vsock, &plan.session, Depth::Template)?;
        let dir = base.join(format!("firecracker-{memory_mib}"));
        machine.pause()?;
        machine.snapshot(Kind::Full, &dir)?;
        files::copy_sparse(&machine.folder.path(OVERLAY), &dir.join(OVERLAY))?;
        Ok(Self {
            program: plan.firecracker.clone(),
            dir,
        })
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

    /// A folder with a disk for a new machine; `tracked` turns its log of dirty pages on.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn stage(&self, base: &Path, tracked: bool) -> Result<Box<dyn Staged>> {
        let folder = Folder::new(base)?;
        files::copy_sparse(&self.dir.join(OVERLAY), &folder.path(OVERLAY))?;
        Ok(Box::new(Ready {
            program: self.program.clone(),
            snapshot: self.dir.clone(),
            folder,
            tracked,
        }))
    }
}

struct Ready {
    program: PathBuf,
    snapshot: PathBuf,
    folder: Folder,
    tracked: bool,
}

impl Staged for Ready {
    fn start(self: Box<Self>, laps: &mut Laps) -> Result<Started> {
        let mut machine = Vm::spawn(&self.program, self.folder, laps)?;
        // One call instead of two: the fastest that the API has.
        let load = json!({
            "snapshot_path": self.snapshot.join(STATE),
            "mem_backend": {"backend_type": "File", "backend_path": self.snapshot.join(MEMORY)},
            "track_dirty_pages": self.tracked,
            "resume_vm": true,
        });
        machine.api.call("PUT", "/snapshot/load", &load)?;
        laps.lap("load and resume");
        let retries = agent::first_answer(&machine.vsock)?;
        laps.lap("answer");
        Ok(Started {
            machine: Box::new(machine),
            retries,
        })
    }
}

struct Vm {
    // Before the folder that it runs in.
    process: Process,
    api: Api,
    vsock: PathBuf,
    folder: Folder,
}

impl Vm {
    fn spawn(program: &Path, folder: Folder, laps: &mut Laps) -> Result<Self> {
        let names = Watch::new(&folder)?;
        // Its usual level tells of every device and request.
        let args = ["--id", "peer", "--api-sock", SOCKET, "--level", "Warn"];
        let mut process = Process::spawn(program, &args, &folder)?;
        laps.lap("spawn");
        let stream = watch::connect(&names.wait_for(&folder, SOCKET, &mut process)?)?;
        laps.lap("socket");
        Ok(Self {
            process,
            api: Api::new(stream, PATIENCE)?,
            vsock: folder.path(VSOCK),
            folder,
        })
    }

    fn state(&mut self, state: &str) -> Result<()> {
        self.api.call("PATCH", "/vm", &json!({"state": state}))
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
        self.state("Paused")
    }

    fn resume(&mut self) -> Result<()> {
        self.state("Resumed")
    }

    fn snapshot(&mut self, kind: Kind, dir: &Path) -> Result<Stages> {
        std::fs::create_dir(dir).with_context(|| format!("could not make {}", dir.display()))?;
        let kind = match kind {
            Kind::Full => "Full",
            Kind::Diff => "Diff",
            Kind::Disk => bail!("Firecracker has no snapshots of disks alone"),
        };
        let body = json!({
            "snapshot_type": kind,
            "snapshot_path": dir.join(STATE),
            "mem_file_path": dir.join(MEMORY),
        });
        self.api.call("PUT", "/snapshot/create", &body)?;
        Ok(Stages::new())
    }
}
