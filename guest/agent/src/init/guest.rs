//! The microVM as the machine under the agent: takes on a sandbox's identity for real.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_protocol::control::{Configure, Limits, Network};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::mount::mount_bind;
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use uuid::Uuid;

use super::{entropy, files, network};
use crate::machine::{Machine, MachineError};
use crate::metrics;
use crate::process::cgroup::UserCgroup;

/// Where the sandbox's variables lie as files (envd).
const VARIABLES_DIR: &str = "/run/e2b";

/// Where the file lies that is seen as the kernel's boot id.
const IDS_DIR: &str = "/run/ids";

/// The kernel's boot id (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How long user processes may take to stand still; one that waits for the disk does so when the disk has answered.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest host name (`HOST_NAME_MAX`, limits.h of Linux).
const MAX_HOSTNAME_LEN: usize = 64;

/// Why an identity is refused before the kernel is asked.
#[derive(Debug, thiserror::Error)]
enum IdentityError {
    /// The host name is empty, too long, or holds other characters than letters, digits, `-` and `.`.
    #[error(
        "The host name is empty, too long, or holds other characters than letters, digits, `-` and `.`."
    )]
    Hostname,
    /// The time is out of the clock's range.
    #[error("The time is out of the clock's range.")]
    Time,
    /// User processes have no cgroup, so that no limit can be set.
    #[error("User processes have no cgroup, so that no limit can be set.")]
    NoCgroup,
}

/// The microVM.
#[derive(Debug)]
pub struct Guest {
    cgroup: Option<Arc<UserCgroup>>,
    /// The sandbox whose ids the machine has; empty before the first.
    known_as: Mutex<String>,
    /// What the kernel was told already. It is the same for all clones of a machine, whose memory holds it with the rest.
    applied: Mutex<Applied>,
}

/// Settings that are in place.
#[derive(Debug, Default)]
struct Applied {
    limits: Option<Limits>,
    network: Option<Network>,
}

impl Guest {
    /// A guest whose user processes live in `cgroup`.
    pub fn new(cgroup: Option<Arc<UserCgroup>>) -> Self {
        Self {
            cgroup,
            known_as: Mutex::default(),
            applied: Mutex::default(),
        }
    }

    /// Gives a new sandbox a boot id and a machine id of its own; the same sandbox keeps them.
    ///
    /// The kernel makes its boot id once, so that all clones of a machine would share it: a file is mounted over it.
    fn take_ids(&self, sandbox_id: &str) -> io::Result<()> {
        let mut known = self.known_as.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == sandbox_id {
            return Ok(());
        }
        fs::create_dir_all(IDS_DIR)?;
        let file = Path::new(IDS_DIR).join("boot_id");
        fs::write(&file, format!("{}\n", Uuid::new_v4()))?;
        if known.is_empty() {
            mount_bind(&file, BOOT_ID)?;
        }
        files::replace("/etc/machine-id", &format!("{}\n", Uuid::new_v4().simple()))?;
        sandbox_id.clone_into(&mut known);
        Ok(())
    }

    fn limit(&self, limits: Limits) -> Result<(), MachineError> {
        let step = "The limits are not set";
        let cgroup = self
            .cgroup
            .as_ref()
            .ok_or(IdentityError::NoCgroup)
            .map_err(MachineError::step(step))?;
        let memory = memory_max(metrics::total_memory(), limits.memory_reserve_mib);
        cgroup
            .limit(limits.pids_max, memory)
            .map_err(MachineError::step(step))
    }
}

/// `memory.max` for user processes: everything but the reserve, at least half of the memory.
fn memory_max(total: u64, reserve_mib: u64) -> u64 {
    total
        .saturating_sub(reserve_mib.saturating_mul(1 << 20))
        .max(total / 2)
}

fn set_hostname(
    name: &str,
    hosts: &BTreeMap<String, Ipv4Addr>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if name.is_empty() || name.len() > MAX_HOSTNAME_LEN || !name.chars().all(valid) {
        return Err(IdentityError::Hostname.into());
    }
    rustix::system::sethostname(name.as_bytes())?;
    // The template's may be links; the files are made anew.
    for (path, text) in [
        ("/etc/hostname", format!("{name}\n")),
        ("/etc/hosts", network::hosts_text(name, hosts)),
    ] {
        files::replace(path, &text)?;
    }
    Ok(())
}

fn add_entropy(text: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(entropy::credit(&STANDARD.decode(text)?)?)
}

impl Machine for Guest {
    fn take_identity(&self, configure: &Configure) -> Result<(), MachineError> {
        if let Some(text) = &configure.entropy {
            add_entropy(text).map_err(MachineError::step("The host's randomness is not taken"))?;
        }
        self.set_clock(configure.unix_time_ns)?;
        let nobody = BTreeMap::new();
        let hosts = configure.network.as_ref().map_or(&nobody, |it| &it.hosts);
        set_hostname(&configure.hostname, hosts)
            .map_err(MachineError::step("The host name is not set"))?;
        self.take_ids(&configure.sandbox_id)
            .map_err(MachineError::step("The machine's ids are not set"))?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.limits != Some(configure.limits) {
            applied.limits = None;
            self.limit(configure.limits)?;
            applied.limits = Some(configure.limits);
        }
        if let Some(settings) = &configure.network
            && applied.network.as_ref() != Some(settings)
        {
            applied.network = None;
            network::configure(settings)
                .map_err(MachineError::step("The network is not set up"))?;
            applied.network = Some(settings.clone());
        }
        Ok(())
    }

    fn set_clock(&self, unix_time_ns: u64) -> Result<(), MachineError> {
        let step = "The clock is not set";
        if unix_time_ns == 0 {
            return Ok(());
        }
        let part = |value: u64| i64::try_from(value).map_err(|_| IdentityError::Time);
        let tv_sec = part(unix_time_ns / 1_000_000_000).map_err(MachineError::step(step))?;
        let tv_nsec = part(unix_time_ns % 1_000_000_000).map_err(MachineError::step(step))?;
        rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec })
            .map_err(MachineError::step(step))
    }

    fn publish_variables(&self, variables: &[(&str, &str)]) -> Result<(), MachineError> {
        let write = || -> io::Result<()> {
            let dir = Path::new(VARIABLES_DIR);
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, Permissions::from_mode(0o755))?;
            for (name, value) in variables {
                fs::write(dir.join(format!(".{name}")), value)?;
            }
            Ok(())
        };
        write().map_err(MachineError::step(
            "The sandbox's variables are not published",
        ))
    }

    fn freeze(&self) -> Result<(), MachineError> {
        // Without a cgroup there are no user processes: `configure` refuses to run any.
        let Some(cgroup) = &self.cgroup else {
            return Ok(());
        };
        cgroup
            .freeze(FREEZE_TIMEOUT)
            .map_err(MachineError::step("User processes do not stand still"))
    }

    fn thaw(&self) -> Result<(), MachineError> {
        let Some(cgroup) = &self.cgroup else {
            return Ok(());
        };
        cgroup
            .thaw()
            .map_err(MachineError::step("User processes do not go on"))
    }

    fn sync(&self) {
        rustix::fs::sync();
    }

    fn power_off(&self) {
        // Nothing should write after the sync.
        if let Some(Err(error)) = self.cgroup.as_ref().map(|group| group.kill()) {
            tracing::warn!(%error, "user processes are not killed");
        }
        rustix::fs::sync();
        // The microVM ends when its guest resets; there is nothing to come back to.
        if let Err(error) = rustix::system::reboot(RebootCommand::Restart) {
            tracing::error!(%error, "the kernel refuses to reboot");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_reserve_but_never_less_than_half() {
        let gib = 1 << 30;
        assert_eq!(memory_max(gib, 64), gib - (64 << 20));
        assert_eq!(memory_max(gib, 1 << 20), gib / 2);
        assert_eq!(memory_max(gib, u64::MAX), gib / 2);
    }
}
