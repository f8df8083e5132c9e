//! The services of an agent, as listeners need them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_protocol::INTERPRETER_PORT;
use axum::Router;

use crate::agent::Agent;
use crate::interpreter::{self, Interpreter};
use crate::listen::loopback;

/// An agent with the routers of its services.
#[derive(Clone, Debug)]
pub struct Services {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Routes of port 49983.
    pub envd: Router,
    interpreter: Interpreter,
    interpreter_routes: Router,
    interpreter_bound: Arc<AtomicBool>,
}

impl Services {
    /// The services of `agent`; the code interpreter keeps its kernels' connection files in `runtime_dir`.
    pub fn new(agent: Arc<Agent>, runtime_dir: impl Into<PathBuf>) -> Self {
        let processes = &agent.processes;
        let interpreter = Interpreter::new(
            agent.state.clone(),
            processes.launcher().clone(),
            Arc::clone(processes.reaper()),
            runtime_dir,
        );
        Self {
            envd: agent.envd(),
            interpreter_routes: interpreter::router(interpreter.clone()),
            interpreter,
            interpreter_bound: Arc::default(),
            agent,
        }
    }

    /// Routes of port 49999, when the sandbox is configured to have a code interpreter. Otherwise 49999 is a port like
    /// any other.
    #[must_use]
    pub fn interpreter_if_enabled(&self) -> Option<Router> {
        let enabled = self.agent.state.settings().code_interpreter;
        enabled.then(|| self.interpreter_routes.clone())
    }

    /// Starts the default kernel and, at the first call, binds the interpreter's loopback port; nothing when the
    /// sandbox has no code interpreter.
    ///
    /// # Errors
    /// When the port cannot be bound; the host reaches the interpreter all the same.
    pub async fn start_interpreter(&self) -> io::Result<()> {
        let Some(routes) = self.interpreter_if_enabled() else {
            return Ok(());
        };
        self.interpreter.prepare();
        if self.interpreter_bound.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        loopback::start(INTERPRETER_PORT, &routes).await
    }
}
