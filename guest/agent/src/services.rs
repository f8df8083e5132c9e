//! The services of an agent, as listeners need them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_protocol::INTERPRETER_PORT;
use agent_protocol::control::Depth;
use axum::Router;

use crate::agent::Agent;
use crate::interpreter::error::InterpreterError;
use crate::interpreter::{self, Interpreter};
use crate::listen::loopback;
use crate::process::environment;
use crate::process::launch::{Launch, LaunchError, Streams};
use crate::users::UserError;

/// What sandboxes run first: the usual tools, and an interpreter that many commands are written for.
const WARM_UP_COMMANDS: &str = "{ ls -la; cat /etc/hostname; echo | grep x; id; uname -a; date; ps; sudo -n true; \
                                python3 -c 'import json, os, sys'; curl --version; git --version; } >/dev/null 2>&1";

/// Why a sandbox did not get warm.
#[derive(Debug, thiserror::Error)]
pub enum WarmUpError {
    /// The code interpreter.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// The default user is not there.
    #[error(transparent)]
    User(#[from] UserError),
    /// A shell does not start.
    #[error(transparent)]
    Shell(#[from] LaunchError),
}

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

    /// Does what first calls would wait for: a shell is loaded, the default kernel answers and has its usual packages.
    ///
    /// # Errors
    /// [`WarmUpError`], for the first thing that fails.
    pub async fn warm_up(&self, depth: Depth) -> Result<(), WarmUpError> {
        if self.agent.state.settings().code_interpreter {
            self.interpreter.warm_up(depth).await?;
        }
        self.load_shell(match depth {
            Depth::Template => WARM_UP_COMMANDS,
            Depth::FirstCall => "true",
        })
        .await
    }

    /// Runs what `commands.run` runs around its command, so that its pages are in memory.
    async fn load_shell(&self, commands: &str) -> Result<(), WarmUpError> {
        let state = &self.agent.state;
        let settings = state.settings();
        let user = state.users().by_name(&settings.default_user)?;
        let launch = Launch {
            cmd: "/bin/bash".to_owned(),
            args: ["-l", "-c", commands].map(String::from).to_vec(),
            env: environment::merge(&user, &settings.env, []),
            cwd: PathBuf::from(&user.home),
            user,
            streams: Streams::Null,
        };
        let launched = self.agent.processes.launcher().launch(&launch).await?;
        // Whatever its status: what it loaded is loaded.
        let _ = launched.exit.await;
        Ok(())
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
