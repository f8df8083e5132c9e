//! The protocol between the daemon on the host and the guest agent: every byte that crosses vsock outside HTTP.
//!
//! ```text
//!   daemon                                   agent (vsock port 1024)
//!     │── "TCP 8080\n" ────────────────────────▶│  connects to 127.0.0.1, ::1 or the guest's own address
//!     │◀─ "OK\n" | "ERR <word> <text>\n" ───────│  then raw bytes both ways, half-close kept
//!     │
//!     │── "CONTROL\n" ─────────────────────────▶│  only from the host (CID 2)
//!     │◀─ "OK\n" ───────────────────────────────│
//!     │── {"id":1,"op":"hello","args":{}}\n ───▶│  one JSON object a line, requests are serial
//!     │◀─ {"id":1,"ok":{…}}\n ──────────────────│
//! ```
//!
//! Ordering rules: exactly one [`opening`] line comes first on each connection; on a control connection, `configure`
//! comes before anything that runs user code. The crate holds types and pure codecs only: no sockets, no clocks.

pub mod control;
pub mod net;
pub mod opening;

/// vsock port that the agent listens on.
pub const AGENT_VSOCK_PORT: u32 = 1024;

/// vsock context id of the host (`VMADDR_CID_HOST`, vsock(7)); the only peer that may open a control connection.
pub const HOST_CID: u32 = 2;

/// Version of the control protocol, reported by `hello`. Raised when a change is not backwards compatible.
pub const PROTOCOL_VERSION: u32 = 1;

/// TCP port of the envd-compatible services (E2B: `49983`).
pub const ENVD_PORT: u16 = 49983;

/// TCP port of the code interpreter (E2B: `49999`).
pub const INTERPRETER_PORT: u16 = 49999;

/// envd version the agent is compatible with (E2B: `envdVersion`); gates features in the SDKs.
pub const ENVD_VERSION: &str = "0.6.13";
