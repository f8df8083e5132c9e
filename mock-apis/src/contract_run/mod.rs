//! One agent through one scenario: mocks up, agent run, journal judged.

pub mod report;
pub mod table;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::engine::Engine;
use crate::journal::Entry;
use crate::server::{Identity, Server};
use crate::verdict::{self, Verdict};

/// Most bytes of the agent's output that are kept, of each stream: 1 MiB. The rest is read and forgotten.
const KEPT_OUTPUT: usize = 1 << 20;

/// The result of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// The agent's command.
    pub agent: Vec<String>,
    /// Where it ran: `plain process`, which isolates nothing.
    pub isolation: String,
    /// Its exit code; nothing when it was ended by a signal or by the time-out.
    pub exit_code: Option<i32>,
    /// Whether its time was over.
    pub timed_out: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// One for each expectation.
    pub verdicts: Vec<Verdict>,
    /// What it called.
    pub journal: Vec<Entry>,
}

impl Run {
    /// The journal, one JSON object per line.
    pub fn journal_lines(&self) -> String {
        let lines = self
            .journal
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok());
        lines.map(|line| line + "\n").collect()
    }
}

/// Runs `agent` as a plain process with each service's address in `<NAME>_URL` and that of the MCP server in `MCP_URL`, for `limit` at most.
pub async fn local(engine: Engine, agent: &[String], limit: Duration) -> std::io::Result<Run> {
    let (program, arguments) = agent
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    let scenario = engine.scenario.clone();
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let server = Server::start(engine, any, any, Identity::default()).await?;
    let addresses = server.services.iter().map(|(name, address)| {
        (
            format!("{}_URL", name.to_uppercase().replace('-', "_")),
            format!("http://{address}"),
        )
    });
    let mcp = format!("http://{}{}", server.mcp, crate::mcp::PATH);
    let mut child = Command::new(program)
        .args(arguments)
        .env("MCP_URL", mcp)
        .envs(&scenario.agent_env)
        .envs(addresses)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let run = async { tokio::join!(child.wait(), output(out), output(err)) };
    let ended = tokio::time::timeout(limit, run).await;
    let timed_out = ended.is_err();
    let (status, stdout, stderr) = match ended {
        Ok((status, stdout, stderr)) => (Some(status?), stdout, stderr),
        Err(_) => {
            child.kill().await?;
            (None, String::new(), String::new())
        }
    };
    // The last connection's end is noted a moment after the agent's.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let state = server.shared.lock();
    let journal = state.journal.entries().to_vec();
    Ok(Run {
        verdicts: verdict::judge(&scenario.expectations, &journal, state.journal.lost()),
        scenario: scenario.name,
        seed: scenario.seed,
        agent: agent.to_vec(),
        isolation: "plain process".to_owned(),
        exit_code: status.and_then(|status| status.code()),
        timed_out,
        stdout,
        stderr,
        journal,
    })
}

async fn output(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let (mut kept, mut block) = (Vec::new(), [0; 8192]);
    while let Ok(read @ 1..) = stream.read(&mut block).await {
        let room = KEPT_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&block[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
