//! The agent as a command in a sandbox, which reaches the mocks by name and nothing else.
//!
//! ```text
//!   create (allowOut: the mocks' names) ─► files written ─► command ─► its end ─► killed, whatever happened
//! ```
//!
//! The calls are those of the E2B SDKs. That the names lead to the mocks is the daemon's part (`--internal-service`), which
//! also says which sandbox calls.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use loadgen::e2b::process::Command;
use loadgen::e2b::{CallError, Client, Sandbox};
use serde_json::json;

use super::files::File;
use super::{Ended, KEPT_OUTPUT, Run, judge, variable};
use crate::mcp;
use crate::scenario::Scenario;
use crate::server::Server;

/// Home of a sandbox's user (E2B), where the agent's files are and where it runs.
const HOME: &str = "/home/user";
/// Life that a sandbox has beyond the agent's time: for its files, and for whoever is slow.
const MARGIN: Duration = Duration::from_secs(120);

/// What agents are run with.
#[derive(Debug)]
pub struct Sandboxes {
    /// Where sandboxes are made.
    pub client: Client,
    /// What follows a service's name in the names that sandboxes call.
    pub domain: String,
    /// The agents' files.
    pub files: Vec<File>,
    /// Longest run of an agent.
    pub limit: Duration,
}

/// Why an agent could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The create.
    #[error(
        "no sandbox was created: {error}\nThe daemon has to know the mocks: start it with {}",
        flags.join(" ")
    )]
    Create {
        /// What the server said.
        error: CallError,
        /// What the daemon has to be started with.
        flags: Vec<String>,
    },
    /// A file.
    #[error("the agent's file {0} was not written: {1}")]
    File(String, CallError),
    /// The command.
    #[error("the agent was not run: {0}")]
    Run(CallError),
}

impl Sandboxes {
    /// Runs `agent` in a sandbox of its own, until its end or until `stop`, when there is no result. The server forgets what
    /// was before.
    ///
    /// # Errors
    /// [`SandboxError`]; no sandbox is left then.
    pub async fn run<T>(
        &self,
        server: &Server,
        scenario: &Scenario,
        agent: &[String],
        stop: impl Future<Output = T>,
    ) -> Result<Option<Run>, SandboxError> {
        server.shared.reset();
        let names = self.names(server);
        let asked = json!({
            "timeout": (self.limit + MARGIN).as_secs(),
            "allow_internet_access": false,
            "network": {"allowOut": names},
            "metadata": {"mock-apis-scenario": scenario.name},
        });
        let created = self.client.create_with(asked).await;
        let sandbox = created.map_err(|error| SandboxError::Create {
            error,
            flags: self.daemon_flags(server),
        })?;
        let sandbox = sandbox.value;
        let ended = tokio::select! {
            ended = self.agent(server, scenario, &sandbox, agent) => Some(ended),
            _ = stop => None,
        };
        // Should this fail, the sandbox's time ends it.
        let _ = self.client.kill(&sandbox).await;
        let Some(ended) = ended.transpose()? else {
            return Ok(None);
        };
        let run = judge(server, scenario, agent, Some(sandbox.id), ended).await;
        Ok(Some(run))
    }

    async fn agent(
        &self,
        server: &Server,
        scenario: &Scenario,
        sandbox: &Sandbox,
        agent: &[String],
    ) -> Result<Ended, SandboxError> {
        for file in &self.files {
            let (path, content) = (format!("{HOME}/{}", file.to), file.content.clone());
            let written = self.client.write(sandbox, &path, Bytes::from(content));
            let failed = |error| SandboxError::File(file.to.clone(), error);
            written.await.map_err(failed)?;
        }
        let argv: Vec<_> = agent.iter().map(String::as_str).collect();
        let command = Command {
            argv: &argv,
            envs: &self.variables(server, scenario),
            cwd: Some(HOME),
            limit: self.limit,
            keep: KEPT_OUTPUT,
        };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match self.client.run(sandbox, &command).await {
            Ok(ended) => Ok(Ended {
                exit_code: i32::try_from(ended.exit).ok(),
                timed_out: false,
                stdout: text(&ended.stdout),
                stderr: text(&ended.stderr),
            }),
            Err(error) if is_late(&error) => Ok(Ended {
                timed_out: true,
                ..Ended::default()
            }),
            Err(error) => Err(SandboxError::Run(error)),
        }
    }

    /// What the agent finds in its environment.
    fn variables(&self, server: &Server, scenario: &Scenario) -> BTreeMap<String, String> {
        let own = |name: &str| format!("http://{name}.{}", self.domain);
        let addresses = server
            .services
            .keys()
            .map(|name| (variable(name), own(name)));
        let mcp = ("MCP_URL".to_owned(), own(mcp::NAME) + mcp::PATH);
        scenario
            .agent_env
            .clone()
            .into_iter()
            .chain([mcp])
            .chain(addresses)
            .collect()
    }

    fn names(&self, server: &Server) -> Vec<String> {
        names(server.services.keys().map(String::as_str), &self.domain)
    }

    fn daemon_flags(&self, server: &Server) -> Vec<String> {
        self.names(server)
            .into_iter()
            .map(|name| format!("--internal-service {name}={}", server.front))
            .collect()
    }
}

/// Names by which sandboxes call the services, and the MCP server where no service has its name.
pub fn names<'a>(services: impl Iterator<Item = &'a str>, domain: &str) -> Vec<String> {
    let mut names: Vec<_> = services.collect();
    if !names.contains(&mcp::NAME) {
        names.push(mcp::NAME);
    }
    let full = |name| format!("{name}.{domain}");
    names.into_iter().map(full).collect()
}

/// Whether a call took too long, by this side's clock or the server's.
fn is_late(error: &CallError) -> bool {
    matches!(error.kind().as_str(), "timeout" | "deadline_exceeded")
}
