//! The same services as an MCP server: each operation is a tool.
//!
//! ```text
//! POST /mcp ─► rmcp ─┬─ initialize, tools/list, ping ──────────────────────────────────► as rmcp answers
//!                    └─ tools/call ─► arguments ─► call ─► engine and journal, as HTTP ─┐
//!                                                                                       ▼
//!                    ┌──────────────── latency ◄── JSON-RPC message ◄── tool result ◄── reply
//!                    ├─► the message by the HTTP stack
//!                    └─► a fault of the message: spoilt, or the connection is taken and a script of its bytes played
//! ```
//!
//! There are two kinds of fault. Most are of the tool: their reply (a status, broken JSON, a wrong value) becomes the tool's result. The
//! others are of the message ([`crate::fault::Effect::MESSAGE`]): what they cut, dribble, mislabel or never send is the HTTP reply that
//! carries the JSON-RPC message. Calls of tools that do not exist, and arguments that make no request, are in the journal too.
//!
//! No sessions: each request stands for itself, so there is nothing for callers to pile up, and identity is that of its connection.

pub mod arguments;
mod face;
mod result;
mod tool;

pub use face::Mcp;
pub use tool::{Tool, tools};

/// Name of the server at the front: the first label of the host name, where no service has it.
pub const NAME: &str = "mcp";

/// Path of the MCP server.
pub const PATH: &str = "/mcp";
