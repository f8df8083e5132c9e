//! The agent as a plain process, which isolates nothing.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{Ended, KEPT_OUTPUT, Run, judge, variable};
use crate::mcp;
use crate::scenario::Scenario;
use crate::server::Server;

/// Runs `agent` with each service's address in `<NAME>_URL` and that of the MCP server in `MCP_URL`, for `limit` at most. The server forgets what was before.
///
/// # Errors
/// When the command cannot be started or waited for.
pub async fn run(
    server: &Server,
    scenario: &Scenario,
    agent: &[String],
    limit: Duration,
) -> std::io::Result<Run> {
    let (program, arguments) = agent
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    server.shared.reset();
    let addresses = server
        .services
        .iter()
        .map(|(name, address)| (variable(name), format!("http://{address}")));
    let mcp = format!("http://{}{}", server.mcp, mcp::PATH);
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
    let ended = match tokio::time::timeout(limit, run).await {
        Ok((status, stdout, stderr)) => Ended {
            exit_code: status?.code(),
            timed_out: false,
            stdout,
            stderr,
        },
        Err(_) => {
            child.kill().await?;
            Ended {
                timed_out: true,
                ..Ended::default()
            }
        }
    };
    Ok(judge(server, scenario, agent, None, ended).await)
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
