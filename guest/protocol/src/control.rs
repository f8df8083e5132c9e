//! Control operations: JSON lines on a connection opened with `CONTROL`.
//!
//! ```text
//!   → {"id":7,"op":"configure","args":{…}}
//!   ← {"id":7,"ok":{…}}                                   or
//!   ← {"id":7,"error":{"code":"bad_args","message":"…"}}
//! ```
//!
//! | op | args | ok |
//! |---|---|---|
//! | `hello` | `{}` | [`HelloReply`] |
//! | `configure` | [`Configure`] | `{}` |
//! | `warm_up` | [`WarmUp`] | `{}`, once what a first call would wait for has been done |
//! | `metrics` | `{}` | [`Metrics`] |
//! | `sync` | `{}` | `{}`, after file data reached the disk |
//! | `freeze` | [`Freeze`] | `{}`, once every user process stands still |
//! | `thaw` | `{}` | `{}`; `configure` does it too, as its last step |
//! | `shutdown` | `{}` | `{}`, then the guest syncs and powers off |
//!
//! A line is at most [`MAX_LINE_LEN`] bytes with its LF. Unknown members are refused on both sides: the daemon and the
//! agent disk are built from the same sources, so an unknown member is a mismatch that must be seen.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest control line in bytes, LF included: room for the largest environment a create request may carry.
pub const MAX_LINE_LEN: usize = 1 << 20;

/// One request line.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Chosen by the caller, echoed in the reply.
    pub id: u64,
    /// What to do.
    pub call: Call,
}

/// An operation with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Who are you, and how long have you been up?
    Hello,
    /// Take on the identity of a sandbox. May be called again; every member replaces the former value.
    Configure(Box<Configure>),
    /// Do what a sandbox's first calls would have to wait for (start the default kernel, load a shell), then write file
    /// data back: what follows may be a snapshot that many sandboxes begin from.
    WarmUp(WarmUp),
    /// Resource use right now; the same members as envd `GET /metrics`.
    Metrics,
    /// Write file data back to the disk.
    Sync,
    /// Hold all user processes still, for a snapshot.
    Freeze(Freeze),
    /// Let user processes go on.
    Thaw,
    /// Sync and power off.
    Shutdown,
}

impl Call {
    /// The operation's name on the wire.
    #[must_use]
    pub fn op(&self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Configure(_) => "configure",
            Self::WarmUp(_) => "warm_up",
            Self::Metrics => "metrics",
            Self::Sync => "sync",
            Self::Freeze(_) => "freeze",
            Self::Thaw => "thaw",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What is done while user processes are held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Whether file data is written back to the disk: a snapshot without memory needs that.
    pub sync: bool,
}

/// How warm a guest is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// How much is done.
    pub depth: Depth,
}

/// How much a warm-up does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Everything that is worth having in a template's memory.
    Template,
    /// One smallest command and one smallest cell: what a sandbox's first call touches.
    FirstCall,
}

/// Identity and limits of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Sandbox id (E2B: `sandboxID`); becomes `E2B_SANDBOX_ID`.
    pub sandbox_id: String,
    /// Template id (E2B: `templateID`); becomes `E2B_TEMPLATE_ID`.
    pub template_id: String,
    /// Host name of the guest.
    pub hostname: String,
    /// Token that clients must send as `X-Access-Token`; `null` leaves the services open.
    pub access_token: Option<String>,
    /// Global environment of user processes (E2B: `envVars`), on top of the template's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// User that runs processes when a call names none.
    pub default_user: String,
    /// Working directory when a call names none; `null` means the user's home.
    pub default_workdir: Option<String>,
    /// Wall clock to set, in nanoseconds since the Unix epoch; 0 leaves the guest's clock alone.
    pub unix_time_ns: u64,
    /// Static network of `eth0`; `null` leaves the guest with loopback only.
    pub network: Option<Network>,
    /// Ceilings for all user processes together.
    pub limits: Limits,
    /// Whether the code interpreter on port 49999 is served.
    #[serde(default)]
    pub code_interpreter: bool,
    /// Host randomness, standard base64, at most 512 bytes decoded, mixed into and credited to the kernel's generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<String>,
}

/// Static IPv4 configuration of the guest's `eth0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Address of the guest.
    pub address: Ipv4Addr,
    /// Prefix length of the link network, 1 to 32.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Ipv4Addr,
    /// Hardware address of the gateway (`06:00:a9:fe:64:01`), entered as a permanent neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Name servers for `/etc/resolv.conf`.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Names in `/etc/hosts` beside the guest's own, at most [`MAX_HOSTS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Ipv4Addr>,
}

/// Most names in `/etc/hosts` beside the guest's own.
pub const MAX_HOSTS: usize = 256;

impl Network {
    /// The network every guest has (see [`crate::net`]), with the given name servers.
    #[must_use]
    pub fn standard(dns: Vec<Ipv4Addr>) -> Self {
        Self {
            address: crate::net::GUEST_ADDRESS,
            prefix: crate::net::GUEST_PREFIX,
            gateway: crate::net::GATEWAY_ADDRESS,
            mac: Some(crate::net::format_mac(crate::net::GATEWAY_MAC)),
            dns,
            hosts: BTreeMap::new(),
        }
    }
}

/// Ceilings for all user processes together, enforced with cgroup v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most processes and threads (`pids.max`); 0 means no limit.
    pub pids_max: u64,
    /// Memory that user processes may not take, in MiB: `memory.max` is the guest's memory less this.
    pub memory_reserve_mib: u64,
}

/// Answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelloReply {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Version of the agent's package.
    pub agent_version: String,
    /// `/proc/sys/kernel/random/boot_id` of the guest.
    pub boot_id: String,
    /// Milliseconds since the guest's kernel started (`CLOCK_BOOTTIME`).
    pub uptime_ms: u64,
}

/// Resource use of the guest (E2B: envd `GET /metrics`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// When the figures were taken, in seconds since the Unix epoch.
    pub ts: i64,
    /// Virtual processors online.
    pub cpu_count: u32,
    /// Processor use since the previous reading, in percent of all processors together (0 to 100).
    pub cpu_used_pct: f32,
    /// Memory of the guest in bytes.
    pub mem_total: u64,
    /// Memory in use in bytes, without the page cache.
    pub mem_used: u64,
    /// Page cache in bytes.
    pub mem_cache: u64,
    /// `mem_total` in MiB.
    pub mem_total_mib: u64,
    /// `mem_used` in MiB.
    pub mem_used_mib: u64,
    /// Bytes in use on the root file system.
    pub disk_used: u64,
    /// Size of the root file system in bytes.
    pub disk_total: u64,
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
}

/// Error codes of the control protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line is not a request.
    BadRequest,
    /// The operation does not exist.
    UnknownOp,
    /// The arguments don't fit the operation.
    BadArgs,
    /// The guest could not do it; the message says why.
    Failed,
}

/// One reply line.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The request's id; 0 when it could not be read.
    pub id: u64,
    /// Result of the operation.
    pub result: Result<Value, ErrorBody>,
}

/// Why a request line is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The line is not a JSON object with the members `id`, `op` and `args`.
    #[error("The line is not a JSON object with the members `id`, `op` and `args`: {0}.")]
    Malformed(serde_json::Error),
    /// The operation does not exist.
    #[error("The operation `{op}` does not exist.")]
    UnknownOp {
        /// The request's id.
        id: u64,
        /// The unknown name, cut to 64 characters.
        op: String,
    },
    /// The arguments do not fit the operation.
    #[error("The arguments of `{op}` are not usable: {error}.")]
    BadArgs {
        /// The request's id.
        id: u64,
        /// The operation.
        op: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl RequestError {
    /// The reply that tells the caller.
    #[must_use]
    pub fn to_response(&self) -> Response {
        let (id, code) = match self {
            Self::Malformed(_) => (0, ErrorCode::BadRequest),
            Self::UnknownOp { id, .. } => (*id, ErrorCode::UnknownOp),
            Self::BadArgs { id, .. } => (*id, ErrorCode::BadArgs),
        };
        Response {
            id,
            result: Err(ErrorBody {
                code,
                message: self.to_string(),
            }),
        }
    }
}

/// Why a reply line is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The reply is not a JSON object with `id` and either `ok` or `error`.
    #[error("The reply is not a JSON object with `id` and either `ok` or `error`.")]
    Malformed,
    /// The reply is not JSON of the expected shape.
    #[error("The reply is not JSON of the expected shape: {0}.")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    id: u64,
    op: String,
    #[serde(default = "empty_object")]
    args: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArgs {}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Request {
    /// Parses one line (with or without its LF).
    ///
    /// # Errors
    /// [`RequestError`]; its [`to_response`](RequestError::to_response) is what the caller must be told.
    pub fn parse(line: &[u8]) -> Result<Self, RequestError> {
        let raw: RawRequest = serde_json::from_slice(line).map_err(RequestError::Malformed)?;
        let RawRequest { id, op, args } = raw;
        let none = |op: &'static str, args, call| {
            let NoArgs {} = from_args(id, op, args)?;
            Ok(call)
        };
        let call = match op.as_str() {
            "hello" => none("hello", args, Call::Hello),
            "configure" => from_args(id, "configure", args).map(Call::Configure),
            "warm_up" => from_args(id, "warm_up", args).map(Call::WarmUp),
            "metrics" => none("metrics", args, Call::Metrics),
            "sync" => none("sync", args, Call::Sync),
            "freeze" => from_args(id, "freeze", args).map(Call::Freeze),
            "thaw" => none("thaw", args, Call::Thaw),
            "shutdown" => none("shutdown", args, Call::Shutdown),
            _ => Err(RequestError::UnknownOp {
                id,
                op: op.chars().take(64).collect(),
            }),
        }?;
        Ok(Self { id, call })
    }

    /// Writes the line with its LF.
    ///
    /// # Errors
    /// Only when a value cannot be represented in JSON, which these types rule out.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let args = match &self.call {
            Call::Configure(configure) => serde_json::to_value(configure)?,
            Call::WarmUp(warm_up) => serde_json::to_value(warm_up)?,
            Call::Freeze(freeze) => serde_json::to_value(freeze)?,
            Call::Hello | Call::Metrics | Call::Sync | Call::Thaw | Call::Shutdown => {
                empty_object()
            }
        };
        let raw = RawRequest {
            id: self.id,
            op: self.call.op().to_owned(),
            args,
        };
        line_of(&raw)
    }
}

fn from_args<T: DeserializeOwned>(
    id: u64,
    op: &'static str,
    args: Value,
) -> Result<T, RequestError> {
    serde_json::from_value(args).map_err(|error| RequestError::BadArgs { id, op, error })
}

impl Response {
    /// A success carrying `value`.
    ///
    /// # Errors
    /// Only when a value cannot be represented in JSON, which the types of this module rule out.
    pub fn ok<T: Serialize>(id: u64, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id,
            result: Ok(serde_json::to_value(value)?),
        })
    }

    /// A success without members: `{}`.
    #[must_use]
    pub fn done(id: u64) -> Self {
        Self {
            id,
            result: Ok(empty_object()),
        }
    }

    /// A failure.
    #[must_use]
    pub fn error(id: u64, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            id,
            result: Err(ErrorBody {
                code,
                message: message.into(),
            }),
        }
    }

    /// Parses one line (with or without its LF).
    ///
    /// # Errors
    /// [`ResponseError`] when the line is not a reply.
    pub fn parse(line: &[u8]) -> Result<Self, ResponseError> {
        let raw: RawResponse = serde_json::from_slice(line)?;
        let result = match (raw.ok, raw.error) {
            (Some(value), None) => Ok(value),
            (None, Some(error)) => Err(error),
            _ => return Err(ResponseError::Malformed),
        };
        Ok(Self { id: raw.id, result })
    }

    /// Writes the line with its LF.
    ///
    /// # Errors
    /// Only when a value cannot be represented in JSON, which these types rule out.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let (ok, error) = match &self.result {
            Ok(value) => (Some(value.clone()), None),
            Err(error) => (None, Some(error.clone())),
        };
        line_of(&RawResponse {
            id: self.id,
            ok,
            error,
        })
    }
}

fn line_of<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;
