//! Machines as `microvm` processes: the implementation of [`Hypervisor`] that ships.
//!
//! How a machine starts is in [`start`](super::start), what is left behind in [`sweep`](super::sweep), and what a machine
//! does about snapshots in [`capture`](super::capture).

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agent_protocol::control::{Configure, Depth, Limits, Metrics, Network};
use base64::Engine;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use vmm::config::{DiskConfig, MachineConfig, NetConfig, SerialConfig, VsockConfig};
use vmm::control::{ErrorCode, SnapshotArgs, State};

use super::agent::{Agent, AgentError};
use super::cgroup::Cgroups;
use super::control::{Control, ControlError};
use super::first_command;
use super::layout::{Layout, MachinePaths};
use super::pool::Pool;
use super::pool::demand::Limits as PoolLimits;
use super::process::{Process, ProcessIdentity};
use super::spawn::Spawner;
use super::start::report_exit;
use super::sweep::Known;
use super::warm::{self, WarmError, WarmTemplates};
use super::{
    AdoptError, DialError, GuestStream, Hypervisor, Machine, Plan, RollbackError, SnapshotError,
    SnapshotOrder, Source, StartError, Started, Swept, Warmed, Written,
};
use crate::egress::Tap;
use crate::ids::{SandboxId, SnapshotId};
use crate::templates::Template;

/// Bound of the guest's console log, in bytes, kept by the process.
pub(super) const SERIAL_LOG_BYTES: u64 = 1 << 20;

/// Bound of the process log, in bytes, kept by [`Machine::trim_logs`].
const PROCESS_LOG_BYTES: u64 = 1 << 20;

/// vsock context id of every guest: 0 to 2 are reserved (vsock(7)), and guests never see each other.
const GUEST_CID: u32 = 3;

/// Most processes and threads of a sandbox per MiB of its memory: a fork bomb stops here, before memory is out.
const GUEST_PIDS_PER_MIB: u64 = 2;

/// Guest memory that user processes may not take, so that the agent survives what they do.
const GUEST_MEMORY_RESERVE_MIB: u64 = 48;

/// What every machine of this daemon shares.
#[derive(Clone, Debug)]
pub struct MicrovmConfig {
    /// The `microvm` program.
    pub program: PathBuf,
    /// Guest kernel, an uncompressed ELF file.
    pub kernel: PathBuf,
    /// Disk with the agent, `vda`.
    pub agent_disk: PathBuf,
    /// Formatted base of the writable disk, `vdc`.
    pub overlay_base: PathBuf,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// What guests with a network are told of it.
    pub network: Network,
}

/// Starts and finds `microvm` processes.
#[derive(Debug)]
pub struct Microvms {
    pub(super) shared: Arc<Shared>,
    pub(super) spawner: Spawner,
    pub(super) pool: Pool,
    pub(super) known: Known,
    templates: WarmTemplates,
}

/// What a machine is made from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// The kernel.
    Kernel,
    /// The kernel, on the disk of a snapshot.
    Disk(&'a Path),
    /// A snapshot: of its template, or of a sandbox.
    Snapshot(&'a Path),
    /// The same, with books kept of the pages that it touches.
    Recorded(&'a Path),
}

/// One `microvm` process. What it does about snapshots is in [`capture`](super::capture).
pub(super) struct Microvm {
    pub(super) shared: Arc<Shared>,
    pub(super) paths: MachinePaths,
    pub(super) process: Arc<Process>,
    pub(super) agent: Agent,
}

/// What every machine needs of the daemon.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: MicrovmConfig,
    pub(super) layout: Layout,
}

impl Microvms {
    /// Machines in the folders of `layout`, with host ceilings when `cgroups` are there, and as many processes ready
    /// ahead as `limits` say.
    pub fn new(
        config: MicrovmConfig,
        layout: Layout,
        cgroups: Option<Cgroups>,
        limits: PoolLimits,
    ) -> Self {
        let spawner = Spawner {
            program: config.program.clone(),
            layout: layout.clone(),
            cgroups,
        };
        Self {
            shared: Arc::new(Shared { config, layout }),
            pool: Pool::new(spawner.clone(), limits),
            spawner,
            known: Known::default(),
            templates: WarmTemplates::default(),
        }
    }

    /// Ends the processes that no sandbox has taken. Nothing is made ready any more.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn start_machine(&self, plan: Plan) -> Result<Started, StartError> {
        match &plan.source {
            Source::Template => self.start_template(plan).await,
            Source::Memory(id) => {
                let snapshot = self.shared.layout.snapshot(id);
                self.start_from(&plan, Origin::Snapshot(&snapshot)).await
            }
            Source::Disk(id) => {
                let snapshot = self.shared.layout.snapshot(id);
                self.start_from(&plan, Origin::Disk(&snapshot)).await
            }
        }
    }

    /// From the template's snapshot where there is one. One that is no good (damaged, or of another processor) is
    /// removed, and its template's sandboxes boot: that takes longer but works.
    async fn start_template(&self, plan: Plan) -> Result<Started, StartError> {
        let Some(snapshot) = self.templates.of(&plan.template) else {
            return self.start_from(&plan, Origin::Kernel).await;
        };
        match self.start_from(&plan, Origin::Snapshot(&snapshot)).await {
            Err(StartError::Control(ControlError::Refused { op, error }))
                if error.code == ErrorCode::BadSnapshot =>
            {
                tracing::warn!(template = plan.template.id, op, %error, "the template's snapshot is given up");
                self.templates.remove(&plan.template);
                let kind = self.kind(&plan, Some(snapshot.clone()));
                self.pool.give_up(&kind).await;
                // Else the next daemon would take it for good.
                let _ = tokio::fs::remove_dir_all(&snapshot).await;
                self.discard_machine(&plan.id).await;
                self.start_from(&plan, Origin::Kernel).await
            }
            started => started,
        }
    }

    pub(super) fn machine_config(&self, plan: &Plan, paths: &MachinePaths) -> MachineConfig {
        let disk = |id: &str, path: &Path, overlay: Option<&Path>| DiskConfig {
            id: id.to_owned(),
            path: path.to_owned(),
            read_only: overlay.is_none(),
            overlay: overlay.map(Path::to_owned),
            snapshot: None,
            overlay_max_bytes: overlay.map(|_| u64::from(plan.template.disk_mib) << 20),
        };
        MachineConfig {
            vcpus: plan.template.vcpus,
            memory_mib: plan.template.memory_mib,
            kernel: self.shared.config.kernel.clone(),
            cmdline_extra: String::new(),
            disks: vec![
                disk("agent", &self.shared.config.agent_disk, None),
                disk("rootfs", &plan.template.rootfs, None),
                disk(
                    "overlay",
                    &self.shared.config.overlay_base,
                    Some(&paths.overlay),
                ),
            ],
            vsock: Some(VsockConfig {
                guest_cid: GUEST_CID,
                uds_path: paths.vsock.clone(),
            }),
            net: plan.tap.as_ref().map(|tap| NetConfig {
                tap: tap.name.clone(),
                mac: tap.mac.clone(),
            }),
            serial: Some(SerialConfig {
                path: paths.serial.clone(),
                max_bytes: SERIAL_LOG_BYTES,
            }),
            rng: true,
            balloon: true,
        }
    }

    /// Takes the snapshot of a template, unless there is one.
    async fn warm_template(
        &self,
        template: Arc<Template>,
        tap: Option<Tap>,
    ) -> Result<Warmed, StartError> {
        let began = Instant::now();
        let key = warm::key(&self.shared.config, &template, tap.is_some())?;
        let folder = self.shared.layout.templates_dir().join(&template.id);
        warm::clear_others(&folder, &key)?;
        let snapshot = folder.join(key);
        let plan = Plan {
            id: SandboxId::generate().map_err(WarmError::from)?,
            template: template.clone(),
            source: Source::Template,
            access_token: None,
            env: std::collections::BTreeMap::new(),
            tap,
        };
        let kind = self.kind(&plan, Some(snapshot.clone()));
        if snapshot.exists() {
            self.templates.add(&template, snapshot);
            self.pool.keep_ready(kind);
            return Ok(Warmed::Found);
        }
        let bytes = self
            .with_machine(&plan, Origin::Kernel, |paths| {
                self.take_snapshot(&plan, paths, &snapshot)
            })
            .await?;
        let recorded = self
            .with_machine(&plan, Origin::Recorded(&snapshot), |paths| {
                self.record_first_call(paths)
            })
            .await;
        // Without the record clones work all the same, and touch their pages one by one.
        if let Err(error) = recorded {
            tracing::warn!(template = template.id, %error, "what a first call touches is not known");
        }
        self.templates.add(&template, snapshot);
        self.pool.keep_ready(kind);
        Ok(Warmed::Taken {
            took: began.elapsed(),
            bytes,
        })
    }

    /// Does something with a machine of the daemon's own and removes the machine.
    async fn with_machine<T, F>(
        &self,
        plan: &Plan,
        origin: Origin<'_>,
        work: impl FnOnce(MachinePaths) -> F,
    ) -> Result<T, StartError>
    where
        F: Future<Output = Result<T, StartError>>,
    {
        let done = match self.start_from(plan, origin).await {
            Ok(Started { machine, .. }) => {
                let done = work(self.shared.layout.of(&plan.id)).await;
                machine.kill();
                machine.exited().await;
                done
            }
            Err(error) => Err(error),
        };
        self.discard_machine(&plan.id).await;
        done
    }

    /// Warms a configured guest up and takes its snapshot; gives the bytes that it holds.
    async fn take_snapshot(
        &self,
        plan: &Plan,
        paths: MachinePaths,
        snapshot: &Path,
    ) -> Result<u64, StartError> {
        let mut control = self.warmed_up(&paths, Depth::Template).await?;
        control.pause().await?;
        let taken = control
            .snapshot(SnapshotArgs {
                dir: snapshot.to_owned(),
                memory: true,
                kind: vmm::snapshot::Kind::Full,
                kernel: self.shared.config.kernel.display().to_string(),
                image: plan.template.build_id.to_string(),
                sync: true,
                checksum: false,
                rebase: false,
            })
            .await?;
        Ok(taken.memory_bytes + taken.disk_bytes)
    }

    /// Does what a first call does in a clone, and notes the pages that it took.
    async fn record_first_call(&self, paths: MachinePaths) -> Result<(), StartError> {
        let mut control = self.warmed_up(&paths, Depth::FirstCall).await?;
        let patience = self.shared.config.start_timeout;
        if !first_command::run(&Agent::new(&paths.vsock), patience).await {
            tracing::warn!("what a first command touches is not known: it did not run");
        }
        control.record().await?;
        Ok(())
    }

    /// The way to control a machine whose guest has got warm.
    async fn warmed_up(&self, paths: &MachinePaths, depth: Depth) -> Result<Control, StartError> {
        Agent::new(&paths.vsock)
            .warm_up(depth, self.shared.config.start_timeout)
            .await?;
        let control = Control::connect(&paths.control).await;
        Ok(control.map_err(ControlError::Io)?)
    }

    async fn adopt_machine(
        &self,
        id: SandboxId,
        identity: ProcessIdentity,
    ) -> Result<Arc<dyn Machine>, AdoptError> {
        let paths = self.shared.layout.of(&id);
        let process = Process::hold(identity.pid).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::SRCH.raw_os_error() => AdoptError::Gone,
            _ => AdoptError::Watch(error),
        })?;
        if process.identity() != identity {
            return Err(AdoptError::Reused);
        }
        let mut control = Control::connect(&paths.control)
            .await
            .map_err(ControlError::Io)?;
        let hello = control.hello().await?;
        if hello.id != id.as_str() || !matches!(hello.state, State::Running | State::Paused) {
            return Err(AdoptError::Mismatch {
                id: hello.id,
                state: hello.state.name(),
            });
        }
        let machine = Microvm {
            shared: self.shared.clone(),
            agent: Agent::new(&paths.vsock),
            paths,
            process: Arc::new(process),
        };
        machine.end_capture(&mut control, hello.state).await?;
        let group = self.spawner.cgroups.as_ref();
        let group = group.and_then(|cgroups| cgroups.of(identity.pid));
        self.known.add(&id, identity, group);
        tokio::spawn(report_exit(id, control));
        Ok(Arc::new(machine))
    }

    async fn remove_snapshot(&self, id: SnapshotId) {
        for folder in self.shared.layout.folders_of(&id) {
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(snapshot = %id, folder = %folder.display(), %error, "a snapshot is left behind");
            }
        }
    }
}

impl Hypervisor for Microvms {
    fn start(&self, plan: Plan) -> BoxFuture<'_, Result<Started, StartError>> {
        self.start_machine(plan).boxed()
    }

    fn warm(
        &self,
        template: Arc<Template>,
        tap: Option<Tap>,
    ) -> BoxFuture<'_, Result<Warmed, StartError>> {
        self.warm_template(template, tap).boxed()
    }

    fn adopt(
        &self,
        id: SandboxId,
        identity: ProcessIdentity,
    ) -> BoxFuture<'_, Result<Arc<dyn Machine>, AdoptError>> {
        self.adopt_machine(id, identity).boxed()
    }

    fn discard(&self, id: SandboxId) -> BoxFuture<'_, ()> {
        async move { self.discard_machine(&id).await }.boxed()
    }

    fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.shared.layout.snapshot(id).is_dir()
    }

    fn discard_snapshot(&self, id: SnapshotId) -> BoxFuture<'_, ()> {
        self.remove_snapshot(id).boxed()
    }

    fn sweep(
        &self,
        keep: HashSet<SandboxId>,
        snapshots: HashSet<SnapshotId>,
    ) -> BoxFuture<'_, Swept> {
        self.sweep_all(keep, snapshots).boxed()
    }
}

impl Machine for Microvm {
    fn identity(&self) -> ProcessIdentity {
        self.process.identity()
    }

    fn dial(&self, port: u16) -> BoxFuture<'_, Result<GuestStream, DialError>> {
        async move {
            let stream = self.agent.dial(port).await?;
            Ok(Box::new(stream) as GuestStream)
        }
        .boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Result<Metrics, AgentError>> {
        self.agent.metrics().boxed()
    }

    fn processor_time(&self) -> Option<Duration> {
        self.process.processor_time()
    }

    fn snapshot(&self, order: SnapshotOrder) -> BoxFuture<'_, Result<Written, SnapshotError>> {
        self.capture(order).boxed()
    }

    fn roll_back(
        &self,
        to: SnapshotId,
        plan: Plan,
    ) -> BoxFuture<'_, Result<Written, RollbackError>> {
        async move { self.go_back(&to, &plan).await }.boxed()
    }

    fn kill(&self) {
        self.process.kill();
    }

    fn exited(&self) -> BoxFuture<'_, ()> {
        self.process.exited().boxed()
    }

    fn trim_logs(&self) {
        let log = &self.paths.log;
        let long = std::fs::metadata(log).is_ok_and(|meta| meta.len() > PROCESS_LOG_BYTES);
        if long && let Ok(log) = OpenOptions::new().write(true).open(log) {
            // The process appends (O_APPEND), so its next line goes to the new end.
            let _ = log.set_len(0);
        }
    }
}

/// What the agent is told.
pub(super) fn configuration(plan: &Plan, network: &Network) -> Configure {
    let mut env = plan.template.env.clone();
    env.extend(plan.env.clone());
    let unix_time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut entropy = [0u8; 64];
    let entropy = getrandom::fill(&mut entropy)
        .ok()
        .map(|()| base64::engine::general_purpose::STANDARD.encode(entropy));
    Configure {
        sandbox_id: plan.id.to_string(),
        template_id: plan.template.id.clone(),
        hostname: plan.id.to_string(),
        access_token: plan.access_token.clone(),
        env,
        default_user: plan.template.user.clone(),
        default_workdir: Some(plan.template.workdir.clone()),
        unix_time_ns: u64::try_from(unix_time.as_nanos()).unwrap_or(0),
        network: plan.tap.as_ref().map(|_| network.clone()),
        limits: Limits {
            pids_max: GUEST_PIDS_PER_MIB * u64::from(plan.template.memory_mib),
            memory_reserve_mib: GUEST_MEMORY_RESERVE_MIB,
        },
        code_interpreter: plan.template.code_interpreter,
        entropy,
    }
}

#[cfg(test)]
#[path = "microvm_tests.rs"]
mod tests;
