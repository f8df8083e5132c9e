//! Settings of the daemon: flags, then environment, then the TOML file, then defaults.
//!
//! The file has the same names as the flags (`state-dir = "/var/lib/sandboxd"`); what `--internal-service` says one by one is
//! there a list, `internal-services`. A name that is not known is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::admission::Limits;
use crate::egress::{Net, Verdict};
use crate::machine::pool::demand::Limits as PoolLimits;
use crate::services::{Service, ServiceError, Services};
use crate::telemetry::logging::LogFormat;

/// State folder when none is named.
pub const STATE_DIR: &str = "/var/lib/sandboxd";

/// Least memory in MiB that a host keeps free when more is promised than it has.
const LEAST_FLOOR_MIB: u64 = 256;

/// Run folder when none is named.
const RUN_DIR: &str = "/run/sandboxd";

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// TOML file with settings of the same names as these flags
    #[arg(long, env = "SANDBOXD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Kill all sandboxes when told to stop (this is the default)
    #[arg(long, conflicts_with = "keep_sandboxes_on_exit")]
    kill_on_exit: bool,
}

/// Settings as they may be given.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Address and port of the API and of the way to sandboxes [default: 127.0.0.1:3000]
    #[arg(long, env = "SANDBOXD_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of the store, and of disks and logs of sandboxes [default: /var/lib/sandboxd]
    #[arg(long, env = "SANDBOXD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Folder of the sockets of sandboxes; a short path [default: /run/sandboxd]
    #[arg(long, env = "SANDBOXD_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Guest kernel, an uncompressed ELF file
    #[arg(long, env = "SANDBOXD_KERNEL", value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Disk with the guest agent
    #[arg(long, env = "SANDBOXD_AGENT_DISK", value_name = "FILE")]
    agent_disk: Option<PathBuf>,
    /// Formatted base of the writable disks
    #[arg(long, env = "SANDBOXD_OVERLAY_BASE", value_name = "FILE")]
    overlay_base: Option<PathBuf>,
    /// Folder with one folder per template
    #[arg(long, env = "SANDBOXD_TEMPLATES", value_name = "DIR")]
    templates: Option<PathBuf>,
    /// The `microvm` program [default: beside this program]
    #[arg(long, env = "SANDBOXD_MICROVM", value_name = "FILE")]
    microvm: Option<PathBuf>,
    /// Domain under which clients reach sandboxes, with its port if not 443; told to clients when given
    #[arg(long, env = "SANDBOXD_DOMAIN", value_name = "DOMAIN")]
    domain: Option<String>,
    /// What sandboxes may reach when a request does not say [default: deny]
    #[arg(long, env = "SANDBOXD_DEFAULT_EGRESS", value_name = "VERDICT")]
    default_egress: Option<DefaultEgress>,
    /// Give sandboxes no network device
    #[arg(long, env = "SANDBOXD_NO_NETWORK", num_args = 0..=1, default_missing_value = "true")]
    no_network: Option<bool>,
    /// What the names of network devices begin with; different for daemons on one host [default: sbx]
    #[arg(long, env = "SANDBOXD_TAP_PREFIX", value_name = "LETTERS")]
    tap_prefix: Option<String>,
    /// Private networks that sandboxes may reach when their request allows them
    #[arg(
        long,
        env = "SANDBOXD_EXEMPT_NETWORKS",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    exempt_networks: Option<Vec<Net>>,
    /// A program that sandboxes may call by a name which their request allows: NAME=HOST:PORT, with HOST:PORT seen from this
    /// host. Guests call http://NAME/. The program is told who calls in a PROXY protocol header (version 2), as a value of
    /// type E5
    #[arg(
        long = "internal-service",
        env = "SANDBOXD_INTERNAL_SERVICES",
        value_name = "SERVICE",
        value_delimiter = ','
    )]
    internal_services: Option<Vec<Service>>,
    /// Name servers of sandboxes [default: 1.1.1.1,8.8.8.8]
    #[arg(
        long,
        env = "SANDBOXD_DNS",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    dns: Option<Vec<Ipv4Addr>>,
    /// Sandboxes at the same time [default: 200]
    #[arg(long, env = "SANDBOXD_MAX_SANDBOXES", value_name = "N")]
    max_sandboxes: Option<u32>,
    /// Memory that may be promised to sandboxes, in MiB; when it is more than is available at start, none is created while
    /// less than a twentieth of that is left [default: nine tenths of what is available at start]
    #[arg(long, env = "SANDBOXD_MEMORY_LIMIT_MIB", value_name = "MIB")]
    memory_limit_mib: Option<u64>,
    /// Longest life of a sandbox in seconds [default: 86400]
    #[arg(long, env = "SANDBOXD_MAX_LIFETIME_SECONDS", value_name = "SECONDS")]
    max_lifetime_seconds: Option<u32>,
    /// Requests and connections to one sandbox at the same time [default: 1024]
    #[arg(long, env = "SANDBOXD_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<u32>,
    /// How long the start of a sandbox may take, in seconds [default: 60]
    #[arg(long, env = "SANDBOXD_START_TIMEOUT_SECONDS", value_name = "SECONDS")]
    start_timeout_seconds: Option<u32>,
    /// Boot each sandbox instead of restoring it from a snapshot of its template
    #[arg(long, env = "SANDBOXD_NO_SNAPSHOTS", num_args = 0..=1, default_missing_value = "true")]
    no_snapshots: Option<bool>,
    /// Processes that are kept ready for each template [default: 1]
    #[arg(long, env = "SANDBOXD_POOL_MIN", value_name = "N")]
    pool_min: Option<u32>,
    /// Processes that are made ready for each template at most, when several are asked for at once; 0 for none [default: 8]
    #[arg(long, env = "SANDBOXD_POOL_MAX", value_name = "N")]
    pool_max: Option<u32>,
    /// How often the resource use of sandboxes is sampled, in seconds, of those that rest every tenth time; 0 only when it is asked for [default: 30]
    #[arg(
        long,
        env = "SANDBOXD_METRICS_INTERVAL_SECONDS",
        value_name = "SECONDS"
    )]
    metrics_interval_seconds: Option<u32>,
    /// Leave sandboxes running when told to stop; the next daemon with the same folders takes them over
    #[arg(long, env = "SANDBOXD_KEEP_SANDBOXES_ON_EXIT", num_args = 0..=1, default_missing_value = "true")]
    keep_sandboxes_on_exit: Option<bool>,
    /// What is logged: a level, or a filter such as `sandboxd=debug` [default: info]
    #[arg(long, env = "SANDBOXD_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Form of log lines [default: text]
    #[arg(long, env = "SANDBOXD_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// What sandboxes may reach when a request does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultEgress {
    /// Nothing.
    Deny,
    /// Everything but the ranges that are always blocked.
    Allow,
}

/// Settings as they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address and port.
    pub listen: SocketAddr,
    /// State folder.
    pub state_dir: PathBuf,
    /// Run folder.
    pub run_dir: PathBuf,
    /// Guest kernel.
    pub kernel: PathBuf,
    /// Agent disk.
    pub agent_disk: PathBuf,
    /// Base of writable disks.
    pub overlay_base: PathBuf,
    /// Templates folder.
    pub templates: PathBuf,
    /// `microvm` program.
    pub microvm: PathBuf,
    /// Domain told to clients.
    pub domain: Option<String>,
    /// What sandboxes may reach when a request does not say.
    pub default_egress: Verdict,
    /// Sandbox network; `None` for none.
    pub network: Option<NetworkSettings>,
    /// What may be promised together.
    pub limits: Limits,
    /// Memory in MiB that the host keeps free, where more may be promised than it has.
    pub memory_floor_mib: Option<u64>,
    /// Longest life in seconds.
    pub max_lifetime: u32,
    /// Requests and connections to one sandbox.
    pub max_connections: usize,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// Whether sandboxes begin from snapshots of their templates.
    pub warm_templates: bool,
    /// Processes that wait for sandboxes.
    pub pool: PoolLimits,
    /// How often resource use is sampled.
    pub metrics_interval: Option<Duration>,
    /// Whether sandboxes outlive the daemon.
    pub keep_sandboxes: bool,
    /// Log filter.
    pub log: String,
    /// Log form.
    pub log_format: LogFormat,
}

/// Settings of the sandbox network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// What device names begin with.
    pub tap_prefix: String,
    /// Networks left to the sandboxes' policies.
    pub exempt: Vec<Net>,
    /// Internal services.
    pub services: Services,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("The settings file {path} cannot be read: {error}.")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not understood.
    #[error("The settings file {path} is not understood: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<toml::de::Error>,
    },
    /// A setting is missing.
    #[error(
        "{what} must be named: with --{flag}, the environment variable {variable}, or `{flag}` in the file given with \
         --config. `cargo xtask setup` builds one."
    )]
    Missing {
        /// What it is.
        what: &'static str,
        /// The flag.
        flag: &'static str,
        /// The variable.
        variable: String,
    },
    /// A named file is not there.
    #[error("{what} is not at {path} (--{flag}): {error}.")]
    Absent {
        /// What it is.
        what: &'static str,
        /// The flag.
        flag: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The services.
    #[error("--internal-service: {0}.")]
    Services(#[from] ServiceError),
    /// A number is out of range.
    #[error("--{flag} must be {range}.")]
    Range {
        /// The flag.
        flag: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

impl ServeArgs {
    /// The settings as they hold.
    pub fn settle(self) -> Result<Settings, SettingsError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Options::default(),
        };
        self.options
            .over(file)
            .settle(available_memory_mib().unwrap_or(0))
    }
}

fn read(path: &Path) -> Result<Options, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Read {
        path: path.to_owned(),
        error,
    })?;
    toml::from_str(&text).map_err(|error| SettingsError::Parse {
        path: path.to_owned(),
        error: Box::new(error),
    })
}

impl Options {
    /// These where they are given, else the others.
    fn over(self, other: Self) -> Self {
        macro_rules! first {
            ($($name:ident)*) => { Self { $($name: self.$name.or(other.$name)),* } };
        }
        first!(listen state_dir run_dir kernel agent_disk overlay_base templates microvm domain default_egress
            no_network tap_prefix exempt_networks internal_services dns max_sandboxes memory_limit_mib max_lifetime_seconds
            max_connections start_timeout_seconds no_snapshots pool_min pool_max metrics_interval_seconds keep_sandboxes_on_exit log log_format)
    }

    fn settle(self, available_mib: u64) -> Result<Settings, SettingsError> {
        let beside = std::env::current_exe()
            .ok()
            .map(|program| program.with_file_name("microvm"));
        let count = |value: Option<u32>, default: u32, flag| match value.unwrap_or(default) {
            0 => Err(SettingsError::Range {
                flag,
                range: "at least 1",
            }),
            count => Ok(count),
        };
        let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let services = Services::new(self.internal_services.unwrap_or_default())?;
        if self.no_network == Some(true) && services.iter().next().is_some() {
            return Err(ServiceError::NoNetwork.into());
        }
        let memory_mib = self.memory_limit_mib.unwrap_or(available_mib / 10 * 9);
        Ok(Settings {
            listen: self
                .listen
                .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 3_000))),
            state_dir: self.state_dir.unwrap_or(STATE_DIR.into()),
            run_dir: self.run_dir.unwrap_or(RUN_DIR.into()),
            kernel: present("The guest kernel", "kernel", self.kernel)?,
            agent_disk: present("The agent disk", "agent-disk", self.agent_disk)?,
            overlay_base: present(
                "The base of writable disks",
                "overlay-base",
                self.overlay_base,
            )?,
            templates: present("The templates folder", "templates", self.templates)?,
            microvm: present("The microvm program", "microvm", self.microvm.or(beside))?,
            domain: self.domain.filter(|domain| !domain.is_empty()),
            default_egress: match self.default_egress {
                Some(DefaultEgress::Allow) => Verdict::Allow,
                Some(DefaultEgress::Deny) | None => Verdict::Deny,
            },
            network: (!self.no_network.unwrap_or(false)).then(|| NetworkSettings {
                tap_prefix: self.tap_prefix.unwrap_or("sbx".to_owned()),
                exempt: self.exempt_networks.unwrap_or_default(),
                services,
                dns: self
                    .dns
                    .unwrap_or(vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8)]),
            }),
            limits: Limits {
                sandboxes: whole(count(self.max_sandboxes, 200, "max-sandboxes")?),
                memory_mib,
            },
            memory_floor_mib: self
                .memory_limit_mib
                .filter(|limit| *limit > available_mib)
                .map(|_| LEAST_FLOOR_MIB.max(available_mib / 20)),
            max_lifetime: count(self.max_lifetime_seconds, 86_400, "max-lifetime-seconds")?,
            max_connections: whole(count(self.max_connections, 1_024, "max-connections")?),
            start_timeout: Duration::from_secs(u64::from(count(
                self.start_timeout_seconds,
                60,
                "start-timeout-seconds",
            )?)),
            warm_templates: !self.no_snapshots.unwrap_or(false),
            pool: pool(self.pool_min, self.pool_max, memory_mib)?,
            metrics_interval: match self.metrics_interval_seconds.unwrap_or(30) {
                0 => None,
                seconds => Some(Duration::from_secs(u64::from(seconds))),
            },
            keep_sandboxes: self.keep_sandboxes_on_exit.unwrap_or(false),
            log: self.log.unwrap_or("info".to_owned()),
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

/// How many processes may wait, on a host that has `memory_mib` for sandboxes. The default is lower where they would take
/// more than a hundredth of that.
fn pool(min: Option<u32>, max: Option<u32>, memory_mib: u64) -> Result<PoolLimits, SettingsError> {
    /// What a process that waits takes, in MiB: its own memory, and the pages that its guest is known to write.
    const WAITING_MIB: u64 = 5;
    const LEAST: u32 = 1;
    const MOST: u32 = 8;
    let fit = u32::try_from(memory_mib / (WAITING_MIB * 100)).unwrap_or(u32::MAX);
    let most = max.unwrap_or_else(|| fit.clamp(LEAST, MOST).max(min.unwrap_or(LEAST)));
    let least = min.unwrap_or(LEAST.min(most));
    if least > most {
        return Err(SettingsError::Range {
            flag: "pool-min",
            range: "at most --pool-max",
        });
    }
    let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(PoolLimits {
        least: whole(least),
        most: whole(most),
    })
}

/// A path that must be given and lead to something; made absolute, since machines run elsewhere.
fn present(
    what: &'static str,
    flag: &'static str,
    path: Option<PathBuf>,
) -> Result<PathBuf, SettingsError> {
    let path = path.ok_or_else(|| SettingsError::Missing {
        what,
        flag,
        variable: format!("SANDBOXD_{}", flag.replace('-', "_").to_ascii_uppercase()),
    })?;
    std::fs::canonicalize(&path).map_err(|error| SettingsError::Absent {
        what,
        flag,
        path,
        error,
    })
}

/// `MemAvailable` of `/proc/meminfo` in MiB.
pub fn available_memory_mib() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix(" kB")
        })
        .and_then(|kib| kib.trim().parse::<u64>().ok())?;
    Some(kib / 1_024)
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
