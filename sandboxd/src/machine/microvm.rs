//! Machines as `microvm` processes: the implementation of [`Hypervisor`] that ships.
//!
//! A start that fails, is dropped or takes too long kills its process through a guard, so no early return can leave
//! one behind. What the process and the guest's console said last becomes part of the error.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agent_protocol::control::{Configure, Depth, Limits, Metrics, Network};
use base64::Engine;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use vmm::config::{DiskConfig, MachineConfig, NetConfig, SerialConfig, VsockConfig};
use vmm::control::{DiskOverride, ErrorCode, Event, RestoreArgs, SnapshotArgs, State};

use super::agent::{Agent, AgentError};
use super::cgroup::{Cgroups, is_in_memory};
use super::control::{Control, ControlError};
use super::layout::{Layout, MachinePaths};
use super::process::{Process, ProcessIdentity, machines_below};
use super::retry::Backoff;
use super::warm::{self, WarmError, WarmTemplates};
use super::{
    AdoptError, DialError, GuestStream, Hypervisor, Machine, Plan, RollbackError, SnapshotError,
    SnapshotOrder, Source, Stages, StartError, Started, Swept, Warmed, Written, sys,
};
use crate::egress::Tap;
use crate::ids::{SandboxId, SnapshotId};
use crate::templates::Template;

/// Bound of the guest's console log, in bytes, kept by the process.
const SERIAL_LOG_BYTES: u64 = 1 << 20;

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
    /// Name servers of guests with a network.
    pub dns: Vec<Ipv4Addr>,
}

/// Starts and finds `microvm` processes.
#[derive(Debug)]
pub struct Microvms {
    shared: Arc<Shared>,
    cgroups: Option<Cgroups>,
    templates: WarmTemplates,
}

/// What a machine is made from.
#[derive(Clone, Copy, Debug)]
enum Origin<'a> {
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

/// Kills its process unless the start succeeded.
struct Guard<'a>(Option<&'a Process>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            process.kill();
        }
    }
}

impl Microvms {
    /// Machines in the folders of `layout`, with host ceilings when `cgroups` are there.
    pub fn new(config: MicrovmConfig, layout: Layout, cgroups: Option<Cgroups>) -> Self {
        Self {
            shared: Arc::new(Shared { config, layout }),
            cgroups,
            templates: WarmTemplates::default(),
        }
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
                // Else the next daemon would take it for good.
                let _ = tokio::fs::remove_dir_all(&snapshot).await;
                self.discard_machine(plan.id.clone()).await;
                self.start_from(&plan, Origin::Kernel).await
            }
            started => started,
        }
    }

    async fn start_from(&self, plan: &Plan, origin: Origin<'_>) -> Result<Started, StartError> {
        let began = Instant::now();
        let paths = self.shared.layout.of(&plan.id);
        make_folder(&paths.run)?;
        make_folder(&paths.state)?;
        let process = Arc::new(self.spawn(&plan.id, &paths)?);
        let mut guard = Guard(Some(&process));
        if let Some(cgroups) = &self.cgroups {
            let mut memory = u64::from(plan.template.memory_mib);
            if is_in_memory(&paths.state) {
                memory += u64::from(plan.template.disk_mib);
            }
            if let Err(error) = cgroups.confine(&plan.id, process.identity().pid, memory) {
                tracing::warn!(sandbox = %plan.id, %error, "the machine runs without host ceilings");
            }
        }
        let stages = tokio::select! {
            result = self.bring_up(plan, &paths, origin, began) => result,
            () = process.exited() => Err(StartError::Died { last_words: last_words(&paths) }),
            () = tokio::time::sleep(self.shared.config.start_timeout) => {
                Err(StartError::TimedOut(self.shared.config.start_timeout))
            }
        };
        let stages = match stages {
            Ok(stages) => stages,
            Err(error) => {
                tracing::warn!(sandbox = %plan.id, %error, last_words = last_words(&paths), "no machine");
                process.kill();
                process.exited().await;
                return Err(error);
            }
        };
        guard.0 = None;
        drop(guard);
        Ok(Started {
            machine: Arc::new(Microvm {
                shared: self.shared.clone(),
                agent: Agent::new(&paths.vsock),
                paths,
                process,
            }),
            stages,
        })
    }

    fn spawn(&self, id: &SandboxId, paths: &MachinePaths) -> Result<Process, StartError> {
        let program = &self.shared.config.program;
        let failed = |error| StartError::Spawn {
            program: program.clone(),
            error,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&paths.log)
            .map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("--id")
            .arg(id.as_str())
            .arg("--control")
            .arg(&paths.control)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env_clear()
            .current_dir("/");
        let child = sys::spawn_in_own_session(&mut command).map_err(failed)?;
        let pid = i32::try_from(child.id()).map_err(|e| failed(std::io::Error::other(e)))?;
        Process::hold(pid).map_err(failed)
    }

    /// From a spawned process to a configured agent.
    async fn bring_up(
        &self,
        plan: &Plan,
        paths: &MachinePaths,
        origin: Origin<'_>,
        began: Instant,
    ) -> Result<Stages, StartError> {
        let mut control = connect(&paths.control).await?;
        control.hello().await?;
        let spawned = Instant::now();
        match clone_of(origin, plan, paths) {
            Some(clone) => drop(control.restore(clone).await?),
            None => {
                let mut config = self.machine_config(plan, paths);
                if let Origin::Disk(snapshot) = origin
                    && let Some(disk) = config.disks.iter_mut().find(|disk| !disk.read_only)
                {
                    disk.snapshot = Some(snapshot.to_owned());
                }
                control.boot(config).await?;
            }
        }
        let made = Instant::now();
        tokio::spawn(report_exit(plan.id.clone(), control));
        let agent = Agent::new(&paths.vsock);
        first_answer(&agent).await?;
        let answered = Instant::now();
        agent
            .configure(configuration(plan, &self.shared.config.dns))
            .await?;
        Ok(Stages {
            spawn: spawned - began,
            make: made - spawned,
            restored: matches!(origin, Origin::Snapshot(_) | Origin::Recorded(_)),
            agent: answered - made,
            configure: answered.elapsed(),
        })
    }

    fn machine_config(&self, plan: &Plan, paths: &MachinePaths) -> MachineConfig {
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
        if snapshot.exists() {
            self.templates.add(&template, snapshot);
            return Ok(Warmed::Found);
        }
        let plan = Plan {
            id: SandboxId::generate().map_err(WarmError::from)?,
            template: template.clone(),
            source: Source::Template,
            access_token: None,
            env: std::collections::BTreeMap::new(),
            tap,
        };
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
        self.discard_machine(plan.id.clone()).await;
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
        tokio::spawn(report_exit(id, control));
        Ok(Arc::new(machine))
    }

    async fn discard_machine(&self, id: SandboxId) {
        let paths = self.shared.layout.of(&id);
        for folder in [&paths.run, &paths.state] {
            if let Err(error) = tokio::fs::remove_dir_all(folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(sandbox = %id, folder = %folder.display(), %error, "a folder is left behind");
            }
        }
        let Some(cgroups) = &self.cgroups else { return };
        // A group stays busy for a moment after its last process was reaped, while the kernel lets go of it.
        let backoff = Backoff::start();
        for _ in 0..60 {
            match cgroups.remove(&id) {
                Ok(()) => return,
                Err(_) => backoff.pause().await,
            }
        }
        tracing::warn!(sandbox = %id, "a cgroup is left behind");
    }

    async fn remove_snapshot(&self, id: SnapshotId) {
        let folder = self.shared.layout.snapshot(&id);
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(snapshot = %id, folder = %folder.display(), %error, "a snapshot is left behind");
        }
    }

    async fn sweep_all(&self, keep: HashSet<SandboxId>, snapshots: HashSet<SnapshotId>) -> Swept {
        let kept: HashSet<PathBuf> = keep
            .iter()
            .map(|id| self.shared.layout.of(id).run)
            .collect();
        let mut swept = Swept::default();
        for pid in machines_below(self.shared.layout.run_dir()) {
            let Ok(process) = Process::hold(pid) else {
                continue;
            };
            // Looked up again now that the pidfd is held: the number may have changed hands.
            let is_kept = kept
                .iter()
                .any(|run| machines_below(run).contains(&process.identity().pid));
            if is_kept || !machines_below(self.shared.layout.run_dir()).contains(&pid) {
                continue;
            }
            process.kill();
            process.exited().await;
            swept.processes += 1;
        }
        let groups = self.cgroups.iter().flat_map(Cgroups::present);
        let left: HashSet<_> = self
            .shared
            .layout
            .present()
            .into_iter()
            .chain(groups)
            .collect();
        for id in left.difference(&keep) {
            self.discard_machine(id.clone()).await;
            swept.folders += 1;
        }
        for folder in self.shared.layout.snapshots_present() {
            let kept = folder
                .file_name()
                .and_then(|name| SnapshotId::parse(name.to_str()?))
                .is_some_and(|id| snapshots.contains(&id));
            if !kept && tokio::fs::remove_dir_all(&folder).await.is_ok() {
                swept.folders += 1;
            }
        }
        swept
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
        self.discard_machine(id).boxed()
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

/// What a sandbox has of its own, in a clone of its template's snapshot.
fn clone_of(origin: Origin<'_>, plan: &Plan, paths: &MachinePaths) -> Option<RestoreArgs> {
    let (snapshot, record) = match origin {
        Origin::Kernel | Origin::Disk(_) => return None,
        Origin::Snapshot(snapshot) => (snapshot, false),
        Origin::Recorded(snapshot) => (snapshot, true),
    };
    let overlay = DiskOverride {
        overlay: Some(paths.overlay.clone()),
        ..DiskOverride::default()
    };
    Some(RestoreArgs {
        dir: snapshot.to_owned(),
        disks: [("overlay".to_owned(), overlay)].into(),
        vsock: Some(paths.vsock.clone()),
        tap: plan.tap.as_ref().map(|tap| tap.name.clone()),
        serial: Some(SerialConfig {
            path: paths.serial.clone(),
            max_bytes: SERIAL_LOG_BYTES,
        }),
        resume: true,
        verify: false,
        record,
    })
}

/// What the agent is told.
pub(super) fn configuration(plan: &Plan, dns: &[Ipv4Addr]) -> Configure {
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
        network: plan.tap.as_ref().map(|_| Network::standard(dns.to_vec())),
        limits: Limits {
            pids_max: GUEST_PIDS_PER_MIB * u64::from(plan.template.memory_mib),
            memory_reserve_mib: GUEST_MEMORY_RESERVE_MIB,
        },
        code_interpreter: plan.template.code_interpreter,
        entropy,
    }
}

/// Connects to the control socket of a process that is about to bind it.
async fn connect(path: &Path) -> Result<Control, ControlError> {
    let backoff = Backoff::start();
    loop {
        match Control::connect(path).await {
            Ok(control) => return Ok(control),
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    backoff.pause().await;
                }
                _ => return Err(error.into()),
            },
        }
    }
}

/// Waits for the first answer of the agent of a booting guest.
async fn first_answer(agent: &Agent) -> Result<(), AgentError> {
    let backoff = Backoff::start();
    loop {
        match agent.hello().await {
            Ok(_) => return Ok(()),
            Err(
                AgentError::NotListening(_) | AgentError::NoMachine(_) | AgentError::TimedOut(_),
            ) => {
                backoff.pause().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Logs why a machine ended, in its own words.
async fn report_exit(id: SandboxId, control: Control) {
    match control.exit_event().await {
        Some(Event::Exited { reason, detail }) => {
            tracing::info!(sandbox = %id, ?reason, detail, "the machine ended");
        }
        None => tracing::debug!(sandbox = %id, "the machine ended without a word"),
    }
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StartError::Folder {
            path: path.to_owned(),
            error,
        })
}

/// The end of the process log and of the guest's console, fit for one log line.
fn last_words(paths: &MachinePaths) -> String {
    let words = [&paths.log, &paths.serial].map(|path| tail(path).unwrap_or_default());
    let text = words.join(" | ");
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match clean.trim_matches([' ', '|']) {
        "" => "(none)".to_owned(),
        words => words.to_owned(),
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    const LENGTH: u64 = 800;
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LENGTH)))?;
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "microvm_tests.rs"]
mod tests;
