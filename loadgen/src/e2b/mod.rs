//! The calls of the E2B API that are measured, as its SDKs send them.
//!
//! | module | calls |
//! |---|---|
//! | `api` | create, kill, list, pause, connect, snapshot, fork; and sandboxd's own checkpoint and rollback |
//! | `agent` | `GET /health` and files, through the data plane |
//! | `process` | a command, by the process service (Connect, JSON) |
//! | `code` | `run_code`, by the code interpreter |
//! | `timing` | what the server says of its own time |
//!
//! Nothing here waits or repeats; who measures decides that.

pub mod agent;
pub mod api;
pub mod code;
pub mod error;
pub mod process;
pub mod sandbox;
pub mod target;
pub mod timing;

use std::sync::Arc;

use crate::wire::Pool;

pub use self::error::CallError;
pub use self::sandbox::Sandbox;
pub use self::target::Target;

/// A client of one target. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    /// Whom it talks to.
    pub target: Arc<Target>,
    pool: Arc<Pool>,
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            pool: Arc::default(),
        }
    }

    /// Closes the connections that nothing is using.
    pub fn rest(&self) {
        self.pool.forget_all();
    }
}
