//! The control protocol of a `microvm` process, version 1.
//!
//! A unix stream socket carries one JSON object per line, at most [`MAX_LINE`] bytes each. Many connections may be open
//! at once; requests are carried out one after the other.
//!
//! ```text
//!   → {"v":1,"id":7,"op":"boot","args":{…}}
//!   ← {"id":7,"ok":{…}}                 or {"id":7,"error":{"code":"bad_config","message":"…"}}
//!   ← {"event":"exited","reason":"guest_reset","detail":"…"}      to every connection, last line of the process
//!
//!   idle ──boot──► running ◄──pause/resume──► paused          any ──kill, guest exit──► exited (the process ends)
//!     │               ▲                        ▲  └─snapshot─┘
//!     └──prepare──► prepared ──restore──► running, or paused        running, paused ──rollback──► running, or paused
//!                    └─stage─┘
//! ```
//!
//! | op | args | ok | allowed in |
//! |---|---|---|---|
//! | `hello` | – | [`Hello`] | any state |
//! | `boot` | [`MachineConfig`](crate::config::MachineConfig) | [`Booted`] | idle |
//! | `pause`, `resume` | – | `{}` | running, paused (a repeated one has no effect) |
//! | `stats` | – | [`Stats`] | any state |
//! | `kill` | – | `{}`, then the process ends with status 0 | any state |
//! | `snapshot` | [`SnapshotArgs`] | [`Snapshotted`] | paused |
//! | `prepare` | [`Shape`](crate::machine::Shape) | [`Ready`] | idle |
//! | `stage` | [`StageArgs`] | [`Ready`]: a `restore` of this snapshot finds its memory in place; one of another snapshot works too | prepared |
//! | `restore` | [`RestoreArgs`] | [`Restored`] | prepared; idle (it prepares first) |
//! | `record` | – | [`Recorded`]: the pages touched since a `restore` with `record` are noted in its folder | running, paused |
//! | `rollback` | [`RollbackArgs`] | [`Restored`] | running, paused |
//!
//! A process may be started with a connection instead of having to be connected to (`--control-stdin`). When that one closes before
//! there is a machine, the process ends: nobody will come for it.
//!
//! What fails changes nothing, with two exceptions: a `restore` that fails in `prepared` after snapshot and arguments were
//! accepted, and a `rollback` that fails on its way, end the process (`exited`, reason `error`): the one has used up what was
//! prepared, the other what the machine was.

pub mod client;
mod line;
mod message;
pub mod server;
mod snapshot;
mod state;

pub use self::client::{Client, ClientError};
pub use self::line::{LineBuffer, LineTooLong};
pub use self::message::{
    Booted, ErrorBody, ErrorCode, Event, ExitReason, Hello, Op, Request, Response, ServerLine,
    Stats, Timestamps, VcpuExits,
};
pub use self::snapshot::{
    DiskOverride, Ready, Recorded, RestoreArgs, Restored, RollbackArgs, SnapshotArgs, Snapshotted,
    StageArgs,
};
pub use self::state::{State, Verdict, judge};

/// Version of the protocol; the `v` of every request.
pub const PROTOCOL: u32 = 1;
/// Longest line in bytes, the newline included.
pub const MAX_LINE: usize = 64 * 1024;
