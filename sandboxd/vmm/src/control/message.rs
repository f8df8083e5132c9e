//! The lines of the control protocol as types.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PROTOCOL, RestoreArgs, RollbackArgs, SnapshotArgs, StageArgs, State};
use crate::config::MachineConfig;
use crate::machine::Shape;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Who is there, and in which state.
    Hello,
    /// Build the machine and run it.
    Boot(Box<MachineConfig>),
    /// Stop all virtual CPUs.
    Pause,
    /// Let them go on.
    Resume,
    /// Counters and sizes.
    Stats,
    /// End the process.
    Kill,
    /// Write down the machine.
    Snapshot(Box<SnapshotArgs>),
    /// Do ahead what needs no contents.
    Prepare(Box<Shape>),
    /// Do ahead what a snapshot's memory needs.
    Stage(Box<StageArgs>),
    /// Go on as a machine that was written down.
    Restore(Box<RestoreArgs>),
    /// Note which pages the guest touched since it was restored.
    Record,
    /// Go back to what was written down.
    Rollback(Box<RollbackArgs>),
}

impl Op {
    /// The word on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Hello => "hello",
            Op::Boot(_) => "boot",
            Op::Pause => "pause",
            Op::Resume => "resume",
            Op::Stats => "stats",
            Op::Kill => "kill",
            Op::Snapshot(_) => "snapshot",
            Op::Prepare(_) => "prepare",
            Op::Stage(_) => "stage",
            Op::Restore(_) => "restore",
            Op::Record => "record",
            Op::Rollback(_) => "rollback",
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client; comes back in the answer.
    pub id: u64,
    /// What to do.
    pub op: Op,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    v: u32,
    id: u64,
    op: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Value>,
}

impl RawRequest {
    /// The request with its arguments read as what `op` takes.
    fn with_args<T: DeserializeOwned>(
        self,
        code: ErrorCode,
        op: impl FnOnce(Box<T>) -> Op,
    ) -> Result<Request, Response> {
        match serde_json::from_value(self.args.unwrap_or(Value::Null)) {
            Ok(args) => Ok(Request {
                id: self.id,
                op: op(Box::new(args)),
            }),
            Err(error) => Err(Response::error(Some(self.id), code, error.to_string())),
        }
    }
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// The answer to send: what is wrong, with the request's id when that could be read.
    pub fn parse(line: &[u8]) -> Result<Self, Response> {
        let raw: RawRequest = serde_json::from_slice(line).map_err(|error| {
            // The id is worth finding even in a request that is otherwise wrong: the client waits for it.
            let value: Option<Value> = serde_json::from_slice(line).ok();
            let id = value
                .as_ref()
                .and_then(|value| value.get("id"))
                .and_then(Value::as_u64);
            Response::error(id, ErrorCode::BadRequest, error.to_string())
        })?;
        let fail = |code, message| Err(Response::error(Some(raw.id), code, message));
        if raw.v != PROTOCOL {
            let message = format!("protocol version {} is not {PROTOCOL}", raw.v);
            return fail(ErrorCode::BadVersion, message);
        }
        let op = match raw.op.as_str() {
            "hello" => Op::Hello,
            "boot" => return raw.with_args(ErrorCode::BadConfig, Op::Boot),
            "snapshot" => return raw.with_args(ErrorCode::BadRequest, Op::Snapshot),
            "prepare" => return raw.with_args(ErrorCode::BadConfig, Op::Prepare),
            "stage" => return raw.with_args(ErrorCode::BadRequest, Op::Stage),
            "restore" => return raw.with_args(ErrorCode::BadRequest, Op::Restore),
            "rollback" => return raw.with_args(ErrorCode::BadRequest, Op::Rollback),
            "pause" => Op::Pause,
            "resume" => Op::Resume,
            "stats" => Op::Stats,
            "kill" => Op::Kill,
            "record" => Op::Record,
            other => {
                let other: String = other.chars().take(40).collect();
                return fail(
                    ErrorCode::UnknownOp,
                    format!("there is no operation {other:?}"),
                );
            }
        };
        let no_args = raw.args.as_ref().is_none_or(|args| {
            args.is_null() || args.as_object().is_some_and(serde_json::Map::is_empty)
        });
        if no_args {
            Ok(Self { id: raw.id, op })
        } else {
            fail(
                ErrorCode::BadRequest,
                format!("{} takes no args", op.name()),
            )
        }
    }

    /// The request as one line with its newline.
    pub fn to_line(&self) -> String {
        let args = match &self.op {
            Op::Boot(args) => serde_json::to_value(args).ok(),
            Op::Snapshot(args) => serde_json::to_value(args).ok(),
            Op::Prepare(args) => serde_json::to_value(args).ok(),
            Op::Stage(args) => serde_json::to_value(args).ok(),
            Op::Restore(args) => serde_json::to_value(args).ok(),
            Op::Rollback(args) => serde_json::to_value(args).ok(),
            Op::Hello | Op::Pause | Op::Resume | Op::Stats | Op::Kill | Op::Record => None,
        };
        let op = self.op.name().to_owned();
        to_line(&RawRequest {
            v: PROTOCOL,
            id: self.id,
            op,
            args,
        })
    }
}

/// One answer: exactly one of `ok` and `error` is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Id of the request; null when the request was unreadable.
    pub id: Option<u64>,
    /// What the operation gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl Response {
    /// The operation worked and gives `value`.
    pub fn ok<T: Serialize>(id: u64, value: &T) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self {
                id: Some(id),
                ok: Some(value),
                error: None,
            },
            Err(error) => Self::error(Some(id), ErrorCode::Internal, error.to_string()),
        }
    }

    /// The operation worked and gives nothing.
    pub fn done(id: u64) -> Self {
        Self {
            id: Some(id),
            ok: Some(Value::Object(serde_json::Map::new())),
            error: None,
        }
    }

    /// The operation failed.
    pub fn error(id: Option<u64>, code: ErrorCode, message: String) -> Self {
        Self {
            id,
            ok: None,
            error: Some(ErrorBody { code, message }),
        }
    }

    /// The answer as one line with its newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line is no request.
    BadRequest,
    /// The `v` of the request is not ours.
    BadVersion,
    /// No such operation.
    UnknownOp,
    /// The machine's configuration is refused.
    BadConfig,
    /// The operation is not allowed in this state.
    WrongState,
    /// The machine could not be built; the process is idle again.
    BootFailed,
    /// There is no usable snapshot at that place: missing, damaged, foreign, from another version or processor.
    BadSnapshot,
    /// The snapshot could not be written; the machine is as it was.
    SnapshotFailed,
    /// The machine could not be restored; the process is idle again, or has ended after a rollback that failed on its way.
    RestoreFailed,
    /// The virtual CPUs did not stop in time.
    Timeout,
    /// A failure of the process itself.
    Internal,
}

/// What happens without being asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The process is about to end.
    Exited {
        /// For programs.
        reason: ExitReason,
        /// For people.
        detail: String,
    },
}

impl Event {
    /// The event as one line with its newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

/// Why a machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest rebooted or powered off.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// A `kill`, SIGTERM or SIGINT.
    Killed,
    /// KVM or the VMM could not go on.
    Error,
}

/// Any line that a `microvm` process sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServerLine {
    /// An answer.
    Response(Response),
    /// An event.
    Event(Event),
}

impl ServerLine {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is neither an answer nor an event of this version.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// Answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Version of the `microvm` program.
    pub version: String,
    /// Version of this protocol.
    pub protocol: u32,
    /// Process id.
    pub pid: u32,
    /// The `--id` that the process was started with, or the name that a `restore` gave it since.
    pub id: String,
    /// Where the machine is.
    pub state: State,
}

/// Answer to `boot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booted {
    /// The three instants, as also in [`Stats`].
    pub times: Timestamps,
}

/// Instants in nanoseconds of CLOCK_MONOTONIC; zero when not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamps {
    /// The process entered its `main`.
    pub process_started_ns: u64,
    /// The `boot` request was read.
    pub boot_started_ns: u64,
    /// All virtual CPUs were let go.
    pub vcpus_running_ns: u64,
}

/// Answer to `stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Where the machine is.
    pub state: State,
    /// Milliseconds since the virtual CPUs were let go; zero before.
    pub uptime_ms: u64,
    /// When things happened.
    pub times: Timestamps,
    /// Returns of KVM_RUN to user space, by kind, over all virtual CPUs.
    pub vcpu_exits: VcpuExits,
    /// Size of guest memory in MiB; zero before `boot`.
    pub memory_mib: u32,
    /// Resident memory of the process in KiB, guest memory included.
    pub rss_kib: u64,
    /// Resident memory of the process in KiB, guest memory left out.
    pub overhead_kib: u64,
    /// Counters of each device.
    pub devices: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Returns of KVM_RUN to user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuExits {
    /// Port reads.
    pub pio_read: u64,
    /// Port writes.
    pub pio_write: u64,
    /// Memory-mapped reads.
    pub mmio_read: u64,
    /// Memory-mapped writes that no ioeventfd took.
    pub mmio_write: u64,
    /// Interrupted by a signal, such as by `pause`.
    pub interrupted: u64,
}

fn to_line<T: Serialize>(value: &T) -> String {
    // These types hold nothing that JSON cannot: no maps with other keys than strings, no failing serializers.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
