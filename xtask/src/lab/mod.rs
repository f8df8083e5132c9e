//! The lab host: a machine with KVM on any x86-64 Linux machine.
//!
//! ```text
//!   this machine                         QEMU (TCG: EPYC with SVM, emulated)
//!   xtask ── QMP over pipes ───────────▶ port forwards
//!     │                                  Debian kernel 6.12, kvm_amd, /dev/kvm
//!     ├── doors ────────────── slirp ──▶ the daemon's port
//!     └── 127.0.0.1:<port> ── slirp ───▶ lab agent :7000 ── commands
//!   /  ◀──────────── 9p, read-only ───── / below a layer in memory
//!   $SANDBOXD_LAB_SHARE ◀── 9p ────────▶ the same path
//! ```
//!
//! Life of a lab, [`Lab::start`] to drop:
//!
//! ```text
//! image ─▶ instance folder ─▶ QEMU ─▶ agent answers ─▶ commands ─▶ power-off ─▶ folder removed
//!                    ▲            │ not within the limit, or QEMU ends
//!                    └── again ◀──┘ (up to three tries, then an error with the console's end)
//! ```
//!
//! Nothing is shared between labs: ports, folders and processes are each lab's own. QEMU dies
//! with the thread that called [`Lab::start`].

pub mod agent;
pub mod client;
pub mod cpio;
pub mod door;
pub mod image;
pub mod init;
pub mod instance;
pub mod machine;
pub mod pulse;
pub mod qmp;
pub mod vmlinux;
pub mod wire;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::cache::Ctx;
use crate::exec::{CommandLine, Output};
use crate::progress::{Task, seconds, tail};
use crate::{child, signals};
use client::{Client, RemoteCommand};
use cpio::Cpio;
use door::Door;
use image::Image;
use instance::{Instance, Kind, ProcessId};
use machine::{Drive, Machine};
use pulse::Pulse;
use qmp::Qmp;
use wire::{AGENT_PORT, LabConfig};

/// How long the lab may take from the request to power off until QEMU has ended.
const POWER_OFF: Duration = Duration::from_secs(15);

/// A busy machine gets this many times the boot limit, as long as QEMU has had less than a
/// [`STARVED`]th of the limit as processor time: starting over would not help it.
const PATIENCE: u32 = 4;
const STARVED: u32 = 4;

/// Ports tried before giving up on finding a free one.
const PORT_TRIES: usize = 20;

/// How a lab is to be.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Memory in MiB; 1024 or more.
    pub memory_mib: u32,
    /// Folder shared read-write with the lab, at the same path there; made when missing.
    pub share: PathBuf,
    /// Files attached as read-only disks.
    pub drives: Vec<Drive>,
    /// The longest that one boot may take.
    pub boot_limit: Duration,
    /// How often a boot is tried.
    pub tries: u32,
}

impl LabOptions {
    /// The usual lab: 8 GiB, 120 s, three tries, the cache's own share.
    ///
    /// # Errors
    /// When the share can't be made.
    pub fn new(ctx: &Ctx) -> Result<Self> {
        let share = match std::env::var_os("SANDBOXD_LAB_SHARE").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => ctx.cache.dir("share")?,
        };
        Ok(Self {
            memory_mib: 8192,
            share,
            drives: Vec::new(),
            boot_limit: Duration::from_secs(120),
            tries: 3,
        })
    }
}

/// A running lab. Dropped, it is powered off and leaves only its logs.
#[derive(Debug)]
pub struct Lab {
    client: Client,
    pulse: Option<Pulse>,
    doors: Vec<Door>,
    qmp: Qmp<ChildStdin>,
    qemu: Child,
    boot: Duration,
    share: PathBuf,
    // Last: its folder goes after QEMU has ended.
    instance: Instance,
}

impl Lab {
    /// Starts a lab and waits until its agent answers.
    ///
    /// # Errors
    /// When the image can't be made, or no try came up: then with the end of the console.
    pub fn start(ctx: &Ctx, options: &LabOptions) -> Result<Self> {
        ensure!(
            options.memory_mib >= 1024,
            "a lab needs 1024 MiB of memory or more"
        );
        let image = Image::get(ctx)?;
        fs::create_dir_all(&options.share)
            .with_context(|| format!("could not make the share {}", options.share.display()))?;
        let mut options = options.clone();
        options.share = options.share.canonicalize()?;
        let task = ctx.progress.task("lab");
        let mut attempt = 1;
        loop {
            match Self::boot(ctx, &image, &options, &task) {
                Ok(lab) => {
                    task.done(&format!(
                        "first command possible {} after start",
                        seconds(lab.boot)
                    ));
                    return Ok(lab);
                }
                Err(error) => {
                    signals::check()?;
                    if attempt >= options.tries {
                        return Err(error.context(format!("no lab after {attempt} tries")));
                    }
                    ctx.progress
                        .line(&format!("lab: try {attempt} failed: {error:#}"));
                    attempt += 1;
                }
            }
        }
    }

    /// Where the agent answers, for `lab --attach`.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.instance.owner().address
    }

    /// A copy of this program that doesn't change while the lab runs; the lab sees it too.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.instance.path("xtask")
    }

    /// Starts a command in the lab; `SANDBOXD_LAB_SHARE` names the share there.
    ///
    /// # Errors
    /// When the agent can't be reached or can't start it.
    pub fn spawn(&self, command: CommandLine, output: Output) -> Result<RemoteCommand> {
        let share = self.share.to_string_lossy().into_owned();
        self.client
            .spawn(command.env("SANDBOXD_LAB_SHARE", share), output)
    }

    /// Makes the lab's TCP port `inside` reachable on this machine's loopback: on port `wanted`,
    /// or on a free one.
    ///
    /// # Errors
    /// When `wanted` is taken, or no free port is found.
    pub fn forward(&mut self, inside: u16, wanted: Option<u16>) -> Result<SocketAddr> {
        let door = Door::open(wanted, forward(&mut self.qmp, inside)?)?;
        let address = door.address();
        self.doors.push(door);
        Ok(address)
    }

    /// Whether QEMU still runs.
    ///
    /// # Errors
    /// When it has ended: with its last words.
    pub fn check(&mut self) -> Result<()> {
        match self.qemu.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "the lab ended by itself ({status}); its console:\n{}",
                tail(&self.instance.path("console.log"))
            ),
        }
    }

    fn boot(ctx: &Ctx, image: &Image, options: &LabOptions, task: &Task) -> Result<Self> {
        let started = Instant::now();
        let mut instance = Instance::create(ctx, Kind::Lab)?;
        let agent = instance.path("xtask");
        fs::copy("/proc/self/exe", &agent).context("could not copy the lab agent")?;
        fs::write(
            instance.path("initramfs.cpio"),
            initramfs(ctx, image, options, &instance)?,
        )?;
        let console = instance.path("console.log");
        let words = Machine {
            image,
            initramfs: &instance.path("initramfs.cpio"),
            memory_mib: options.memory_mib,
            share: &options.share,
            drives: &options.drives,
            console: &console,
        }
        .words()?;
        task.message("starting QEMU");
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(instance.path("qemu.log"))?);
        let qemu = child::tie(&mut command, Signal::KILL)
            .spawn()
            .context("could not start QEMU")?;
        let mut qemu = Reaped(Some(qemu));
        let id = qemu.get().id();
        instance.update(|owner| owner.qemu = ProcessId::of(id))?;

        let pipes = (qemu.get().stdin.take(), qemu.get().stdout.take());
        let (Some(to), Some(from)) = pipes else {
            bail!("QEMU has no pipes")
        };
        let qmp = Qmp::open(to, from).and_then(|mut qmp| Ok((forward(&mut qmp, AGENT_PORT)?, qmp)));
        let (address, qmp) = qmp.with_context(|| {
            format!("QEMU did not start:\n{}", tail(&instance.path("qemu.log")))
        })?;
        let client = Client::new(address, &instance.owner().token);

        task.message("booting");
        loop {
            signals::check()?;
            if client.hello(Duration::from_secs(2)).is_ok() {
                break;
            }
            if let Some(status) = qemu.get().try_wait()? {
                bail!(
                    "the lab ended while booting ({status}); its console:\n{}",
                    tail(&console)
                );
            }
            let cpu = ProcessId::of(id).map_or(Duration::ZERO, ProcessId::cpu_time);
            if over(started.elapsed(), cpu, options.boot_limit) {
                bail!(
                    "the lab did not come up within {} (QEMU had {} of processor time); its \
                     console:\n{}",
                    seconds(started.elapsed()),
                    seconds(cpu),
                    tail(&console)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let boot = started.elapsed();
        instance.update(|owner| {
            owner.address = Some(address);
            owner.share = Some(options.share.clone());
        })?;
        let qemu = qemu.0.take().context("QEMU is gone")?;
        Ok(Self {
            pulse: Some(Pulse::start(client.clone(), pulse::PERIOD)),
            doors: Vec::new(),
            client,
            qmp,
            qemu,
            boot,
            share: options.share.clone(),
            instance,
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Refused or unanswered, the wait below ends it.
        let asked = self.client.shutdown(Duration::from_secs(3)).is_ok();
        let deadline = Instant::now() + POWER_OFF;
        while asked && Instant::now() < deadline {
            if !matches!(self.qemu.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.pulse = None;
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Whether a boot that took `elapsed`, `cpu` of it on a processor, has taken too long.
fn over(elapsed: Duration, cpu: Duration, limit: Duration) -> bool {
    elapsed > limit * PATIENCE || (elapsed > limit && cpu > limit / STARVED)
}

/// Kills and reaps on the way out of a failed start.
struct Reaped(Option<Child>);

impl Reaped {
    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("taken only at the end of a start")
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn forward(qmp: &mut Qmp<ChildStdin>, inside: u16) -> Result<SocketAddr> {
    let mut error = None;
    for _ in 0..PORT_TRIES {
        // Free now; another may take it before QEMU does, hence the tries.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        match qmp.monitor(&format!("hostfwd_add net tcp:127.0.0.1:{port}-:{inside}")) {
            Ok(()) => return Ok((Ipv4Addr::LOCALHOST, port).into()),
            Err(why) => error = Some(why),
        }
    }
    Err(error.context("no free port")?)
}

/// The image's archive followed by one with what this start needs.
fn initramfs(
    ctx: &Ctx,
    image: &Image,
    options: &LabOptions,
    instance: &Instance,
) -> Result<Vec<u8>> {
    let own = |path: PathBuf| path.to_string_lossy().replace('\'', r"'\''");
    let env = format!(
        "AGENT='{}'\nMODULES='{}'\n",
        own(instance.path("xtask")),
        own(image.modules.clone())
    );
    let mut visible = vec![ctx.workspace.clone(), ctx.cache.root().to_path_buf()];
    visible.extend(std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    visible.extend(std::env::current_exe()?.parent().map(PathBuf::from));
    visible.extend(std::env::current_dir());
    visible.retain(|path| path.is_dir());
    let config = LabConfig {
        token: instance.owner().token.clone(),
        share: options.share.clone(),
        visible,
        modprobe: image::kmod_words(&image.tree, "modprobe"),
    };
    let mut extra = Cpio::default();
    extra.file("lab/env", 0o600, env.as_bytes()).file(
        "lab/config.json",
        0o600,
        &serde_json::to_vec(&config)?,
    );
    let mut archive = fs::read(&image.initramfs)?;
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(extra.finish());
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starved_boot_gets_more_time_but_not_for_ever() {
        let s = Duration::from_secs;
        let limit = s(120);
        assert!(!over(s(119), s(100), limit));
        assert!(over(s(121), s(100), limit));
        assert!(!over(s(121), s(10), limit));
        assert!(over(s(481), s(10), limit));
    }
}
