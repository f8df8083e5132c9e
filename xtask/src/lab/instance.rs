//! The folder of something that runs, and the removal of what a killed `xtask` left behind.
//!
//! ```text
//! <cache>/run/direct-XXXXXX/
//!   owner.json      who runs it (process number and start time)
//!   state/          the daemon's state
//! <cache>/run/lab-XXXXXX/
//!   owner.json      the same, and how to reach the lab
//!   console.log     the lab's console; moves to <cache>/logs at the end
//!   qemu.log        what QEMU printed
//!   initramfs.cpio  the image's archive and this start's own
//!   xtask           the lab agent: a copy, so that a rebuild can't change it under a lab
//! ```
//!
//! A process number alone may have been given to another process; with its start time (field
//! 22 of `/proc/<pid>/stat`) it names one process for good.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cache::{Ctx, remove_tree};

/// Console logs kept.
const LOGS_KEPT: usize = 20;

/// One process, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (start, state) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Processor time it has had so far.
    #[must_use]
    pub fn cpu_time(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let ticks = parse_cpu(&stat).unwrap_or(0);
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    fn kill(self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && self.alive()
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Start time and state. The program's name in between may hold anything, also `)`.
fn parse_stat(stat: &str) -> Option<(u64, char)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

/// User and system time, in ticks.
fn parse_cpu(stat: &str) -> Option<u64> {
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_whitespace()
        .skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// What `owner.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The `xtask` that runs the lab.
    pub xtask: ProcessId,
    /// Its QEMU, once started.
    pub qemu: Option<ProcessId>,
    /// Where the agent answers, once it does.
    pub address: Option<SocketAddr>,
    /// The agent's token.
    pub token: String,
    /// Folder shared read-write with the lab.
    pub share: Option<PathBuf>,
    /// Folders elsewhere that go with this one.
    pub also: Vec<PathBuf>,
}

/// What an instance is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A lab.
    Lab,
    /// A daemon on this machine.
    Direct,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Lab, Self::Direct];

    fn prefix(self) -> &'static str {
        match self {
            Self::Lab => "lab-",
            Self::Direct => "direct-",
        }
    }
}

/// The folder of one running thing. Dropped, it is removed and its logs are kept.
#[derive(Debug)]
pub struct Instance {
    dir: PathBuf,
    logs: PathBuf,
    owner: Owner,
}

impl Instance {
    /// Removes what dead owners left, then makes a folder.
    ///
    /// # Errors
    /// When the cache can't be written or there are no random bytes.
    pub fn create(ctx: &Ctx, kind: Kind) -> Result<Self> {
        let run = ctx.cache.dir("run")?;
        sweep(&run)?;
        let mut random = [0; 16];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        let dir = tempfile::Builder::new()
            .prefix(kind.prefix())
            .tempdir_in(&run)?
            .keep();
        let me = std::process::id();
        let owner = Owner {
            xtask: ProcessId::of(me).context("could not read our own /proc entry")?,
            qemu: None,
            address: None,
            token: hex::encode(random),
            share: None,
            also: Vec::new(),
        };
        let instance = Self {
            dir,
            logs: ctx.cache.dir("logs")?,
            owner,
        };
        instance.record()?;
        Ok(instance)
    }

    /// A file in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The record as it stands.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Changes the record, in memory and on disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn update(&mut self, change: impl FnOnce(&mut Owner)) -> Result<()> {
        change(&mut self.owner);
        self.record()
    }

    /// Where the logs of this lab go when it ends.
    #[must_use]
    pub fn kept_log(&self, kind: &str) -> PathBuf {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        self.logs.join(format!("{name}.{kind}.log"))
    }

    fn record(&self) -> Result<()> {
        let new = self.path("owner.json.new");
        let mut file = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(&self.owner)?)?;
        Ok(fs::rename(new, self.path("owner.json"))?)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for kind in ["console", "qemu"] {
            let _ = fs::rename(self.path(&format!("{kind}.log")), self.kept_log(kind));
        }
        for dir in self.owner.also.iter().chain([&self.dir]) {
            let _ = remove_tree(dir);
        }
        let _ = prune_logs(&self.logs);
    }
}

/// The labs whose owners are alive and whose agents answer.
///
/// # Errors
/// When the folder can't be listed.
pub fn running(ctx: &Ctx) -> Result<Vec<Owner>> {
    let owners = records(&ctx.cache.dir("run")?)?.into_iter();
    Ok(owners
        .filter_map(|(_, owner)| owner)
        .filter(|owner| owner.xtask.alive() && owner.address.is_some())
        .collect())
}

fn sweep(run: &Path) -> Result<()> {
    for (dir, owner) in records(run)? {
        match owner {
            Some(owner) if owner.xtask.alive() => {}
            Some(owner) => {
                if let Some(qemu) = owner.qemu {
                    qemu.kill();
                }
                for dir in owner.also.iter().chain([&dir]) {
                    remove_tree(dir)?;
                }
            }
            // Made a moment ago by another start, or broken: leave it a minute.
            None => {
                let age = fs::metadata(&dir).and_then(|m| m.modified()).ok();
                let age = age.and_then(|time| time.elapsed().ok());
                if age.is_some_and(|age| age.as_secs() > 60) {
                    remove_tree(&dir)?;
                }
            }
        }
    }
    Ok(())
}

fn records(run: &Path) -> Result<Vec<(PathBuf, Option<Owner>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(run)? {
        let dir = entry?.path();
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if Kind::ALL.iter().any(|kind| name.starts_with(kind.prefix())) {
            let text = fs::read(dir.join("owner.json")).unwrap_or_default();
            found.push((dir, serde_json::from_slice(&text).ok()));
        }
    }
    Ok(found)
}

fn prune_logs(logs: &Path) -> Result<()> {
    for kind in ["console", "qemu"] {
        let mut found = Vec::new();
        for entry in fs::read_dir(logs)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("lab-") && name.ends_with(&format!(".{kind}.log")) {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort();
        for (_, path) in found.iter().rev().skip(LOGS_KEPT) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cache::Cache;
    use crate::progress::Progress;

    fn ctx() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        (
            dir,
            Ctx {
                workspace: "/".into(),
                cache,
                progress: Progress::new(),
            },
        )
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1";
        assert_eq!(parse_stat(stat), Some((4242, 'S')));
        assert_eq!(parse_cpu(stat), Some(5 + 6));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_recycled_number_is_another_process() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(
            !ProcessId {
                start: me.start + 1,
                ..me
            }
            .alive()
        );
    }

    #[test]
    fn a_dead_owners_lab_is_killed_and_removed() {
        let (_dir, ctx) = ctx();
        let mut qemu = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut instance = Instance::create(&ctx, Kind::Lab).unwrap();
        let (left, elsewhere) = (instance.dir.clone(), tempfile::tempdir().unwrap().keep());
        instance
            .update(|owner| {
                owner.xtask.start += 1;
                owner.qemu = ProcessId::of(qemu.id());
                owner.also = vec![elsewhere.clone()];
            })
            .unwrap();
        std::mem::forget(instance);

        let next = Instance::create(&ctx, Kind::Lab).unwrap();
        assert!(!left.exists() && !elsewhere.exists());
        assert!(next.dir.exists());
        assert!(!qemu.wait().unwrap().success());
    }

    #[test]
    fn the_end_keeps_the_console_and_removes_the_rest() {
        let (_dir, ctx) = ctx();
        let instance = Instance::create(&ctx, Kind::Lab).unwrap();
        fs::write(instance.path("console.log"), "booted").unwrap();
        let (dir, log) = (instance.dir.clone(), instance.kept_log("console"));
        drop(instance);
        assert!(!dir.exists());
        assert_eq!(fs::read_to_string(log).unwrap(), "booted");
    }

    #[test]
    fn only_labs_that_answer_are_listed() {
        let (_dir, ctx) = ctx();
        let mut instance = Instance::create(&ctx, Kind::Lab).unwrap();
        assert_eq!(running(&ctx).unwrap(), []);
        instance
            .update(|o| o.address = Some(([127, 0, 0, 1], 9).into()))
            .unwrap();
        assert_eq!(running(&ctx).unwrap(), [instance.owner().clone()]);
    }
}
