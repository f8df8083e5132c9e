//! The host that sandboxes run on: this machine, or a lab. Everything that starts a daemon,
//! runs a command beside it or counts what it left takes a [`Host`] and needn't know which.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::exec::local::LocalCommand;
use crate::exec::{CommandLine, Exit, Output};
use crate::lab::Lab;
use crate::lab::client::RemoteCommand;

/// Where commands run. Dropped, a lab is powered off.
#[derive(Debug)]
pub enum Host {
    /// This machine.
    Direct,
    /// A lab on this machine.
    Lab(Box<Lab>),
}

impl Host {
    /// `direct` or `lab`, for people and for figures.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Lab(_) => "lab",
        }
    }

    /// Starts a command. On this machine it gets SIGTERM if this process dies.
    ///
    /// Call from the main thread: a command is tied to the thread that starts it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: CommandLine, output: Output) -> Result<Running> {
        match self {
            Self::Direct => {
                let mut local = LocalCommand::spawn(&command, output, Signal::TERM)?;
                drop(local.take_stdin());
                Ok(Running::Direct(local))
            }
            Self::Lab(lab) => {
                let remote = lab.spawn(command, output)?;
                remote.input().close();
                Ok(Running::Lab(remote))
            }
        }
    }

    /// Runs a command that should end within `limit`; gives its standard output.
    ///
    /// # Errors
    /// When it fails or takes longer: with its standard error.
    pub fn output(&self, command: CommandLine, limit: Duration) -> Result<String> {
        let shown = command.argv.join(" ");
        let (output, captured) = Output::capture();
        match self.spawn(command, output)?.wait_for(limit)? {
            Some(Exit::Code(0)) => Ok(captured.stdout()),
            Some(exit) => bail!("`{shown}` ended with {exit}: {}", captured.stderr().trim()),
            None => bail!("`{shown}` did not end within {} s", limit.as_secs()),
        }
    }

    /// The address here of the host's TCP port `inside`: on port `wanted`, or a free one.
    ///
    /// Directly there is nothing to forward: the daemon must listen on `wanted` itself.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn forward(&mut self, inside: u16, wanted: Option<u16>) -> Result<SocketAddr> {
        match self {
            Self::Direct => Ok((Ipv4Addr::LOCALHOST, inside).into()),
            Self::Lab(lab) => lab.forward(inside, wanted),
        }
    }

    /// Where the host finds a TCP port of this machine's loopback. What it connects to there sees 127.0.0.1 as its peer.
    #[must_use]
    pub fn way_back(&self, port: u16) -> String {
        match self {
            Self::Direct => format!("127.0.0.1:{port}"),
            // QEMU's user network: 10.0.2.2 is the machine that it runs on.
            Self::Lab(_) => format!("10.0.2.2:{port}"),
        }
    }

    /// The words to put before a command so that it runs on this host, from any process here.
    ///
    /// # Errors
    /// When the lab has no address.
    pub fn prefix(&self) -> Result<Vec<String>> {
        match self {
            Self::Direct => Ok(Vec::new()),
            Self::Lab(lab) => {
                let address = lab.address().context("the lab has no address")?;
                Ok(vec![
                    lab.program().to_string_lossy().into_owned(),
                    "lab".into(),
                    "--attach".into(),
                    address.to_string(),
                    "--".into(),
                ])
            }
        }
    }

    /// Whether the host is still there.
    ///
    /// # Errors
    /// When a lab has ended.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Direct => Ok(()),
            Self::Lab(lab) => lab.check(),
        }
    }
}

/// A command running on a [`Host`]. Dropped, it is killed.
#[derive(Debug)]
pub enum Running {
    /// On this machine.
    Direct(LocalCommand),
    /// In a lab.
    Lab(RemoteCommand),
}

impl Running {
    /// Sends a signal to the command's process group.
    pub fn signal(&self, signal: Signal) {
        match self {
            Self::Direct(local) => local.group().signal(signal),
            Self::Lab(remote) => remote.input().signal(signal.as_raw()),
        }
    }

    /// How it ended; `None` when it hasn't within `timeout`.
    ///
    /// # Errors
    /// When the lab went away, or the command can't be waited for.
    pub fn wait_for(&self, timeout: Duration) -> Result<Option<Exit>> {
        match self {
            Self::Direct(local) => local.wait_for(timeout),
            Self::Lab(remote) => remote.wait_for(timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_a_failing_command_tells_why() {
        let command = CommandLine::new(["sh", "-c", "echo no such key >&2; exit 2"]);
        let error = Host::Direct
            .output(command, Duration::from_secs(20))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("ended with exit status 2: no such key"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let command = CommandLine::new(["sleep", "60"]);
        let error = Host::Direct
            .output(command, Duration::from_millis(50))
            .unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
