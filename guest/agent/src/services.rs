//! The HTTP services of an agent, as listeners need them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_protocol::INTERPRETER_PORT;
use axum::Router;

use crate::agent::Agent;
use crate::listen::loopback;

/// An agent with the routers of its services.
#[derive(Clone, Debug)]
pub struct Services {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Routes of port 49983.
    pub envd: Router,
    /// Routes of port 49999, for sandboxes that have a code interpreter.
    interpreter: Option<Router>,
    interpreter_bound: Arc<AtomicBool>,
}

impl Services {
    /// The services of `agent`; `interpreter` are the routes of port 49999.
    #[must_use]
    pub fn new(agent: Arc<Agent>, interpreter: Option<Router>) -> Self {
        let envd = agent.envd();
        Self {
            agent,
            envd,
            interpreter,
            interpreter_bound: Arc::default(),
        }
    }

    /// The interpreter's routes, when the sandbox is configured to have one. Otherwise port 49999 is a port like any
    /// other.
    #[must_use]
    pub fn interpreter_if_enabled(&self) -> Option<Router> {
        let enabled = self.agent.state.settings().code_interpreter;
        self.interpreter.clone().filter(|_| enabled)
    }

    /// Binds the interpreter's loopback port at the first call after it was enabled.
    pub fn start_interpreter(&self) {
        let Some(router) = self.interpreter_if_enabled() else {
            return;
        };
        if !self.interpreter_bound.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                if let Err(error) = loopback::start(INTERPRETER_PORT, &router).await {
                    tracing::warn!(%error, "the code interpreter has no loopback port");
                }
            });
        }
    }
}
