//! A command on this machine: a process group of its own that ends with its first process.
//!
//! ```text
//! spawn ─▶ first process ends ─▶ the rest of its group is killed ─▶ reaped
//!                                     └─▶ output drained (at most a second) ─▶ exit told
//! ```
//!
//! What must outlive its command starts itself with `setsid`.

use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{CommandLine, Exit, Output, Sink, pump};
use crate::child;

/// How long output is still taken after a command ended, from processes that left its group.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A running command's process group. Once its first process is reaped the number may name
/// another group, so it is only used under the lock and while `alive`.
#[derive(Debug, Clone)]
pub struct Group {
    id: Pid,
    alive: Arc<Mutex<bool>>,
}

impl Group {
    /// Sends a signal, if the group is still there.
    pub fn signal(&self, signal: Signal) {
        if *self.alive.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits for the first process, ends the rest, reaps.
    fn wait(&self, child: &mut Child) -> std::io::Result<Exit> {
        while waitid(
            WaitId::Pid(self.id),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .is_err_and(|error| error == rustix::io::Errno::INTR)
        {}
        self.signal(Signal::KILL);
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
        child.wait().map(Exit::from)
    }
}

/// A command running on this machine. Dropped, it is killed.
#[derive(Debug)]
pub struct LocalCommand {
    group: Group,
    stdin: Option<ChildStdin>,
    ended: Receiver<Result<Exit>>,
}

impl LocalCommand {
    /// Starts a command. If this process (or the thread that calls) dies, it gets `tied`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(line: &CommandLine, output: Output, tied: Signal) -> Result<Self> {
        let (program, args) = line.argv.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(&line.env)
            .current_dir(&line.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = child::tie(&mut command, tied)
            .spawn()
            .with_context(|| format!("could not start '{program}' in {}", line.cwd.display()))?;
        let group = Group {
            id: Pid::from_child(&child),
            alive: Arc::new(Mutex::new(true)),
        };
        let stdin = child.stdin.take();
        let (sending, drained) = mpsc::channel::<()>();
        carry(child.stdout.take(), output.stdout, sending.clone());
        carry(child.stderr.take(), output.stderr, sending);
        let (send, ended) = mpsc::channel();
        let waiting = group.clone();
        std::thread::spawn(move || {
            let exit = waiting
                .wait(&mut child)
                .context("could not wait for the command");
            let _ = drained.recv_timeout(LAST_OUTPUT);
            let _ = send.send(exit);
        });
        Ok(Self {
            group,
            stdin,
            ended,
        })
    }

    /// Its process group, for signals.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// Its input; dropping what is returned ends it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// How it ended; `None` when it hasn't within `timeout`.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn wait_for(&self, timeout: Duration) -> Result<Option<Exit>> {
        told(&self.ended, timeout)
    }
}

impl Drop for LocalCommand {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
    }
}

/// What a waiting thread tells, within `timeout`.
///
/// # Errors
/// What it tells, or when it has told already.
pub fn told(ended: &Receiver<Result<Exit>>, timeout: Duration) -> Result<Option<Exit>> {
    match ended.recv_timeout(timeout) {
        Ok(exit) => exit.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => bail!("the command was waited for twice"),
    }
}

fn carry(from: Option<impl Read + Send + 'static>, to: Sink, sending: mpsc::Sender<()>) {
    std::thread::spawn(move || {
        let _sending = sending;
        if let Some(from) = from {
            pump(from, to);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str, output: Output) -> LocalCommand {
        let line = CommandLine::new(["sh", "-c", script]);
        LocalCommand::spawn(&line, output, Signal::KILL).unwrap()
    }

    #[test]
    fn output_is_whole_when_the_exit_is_told() {
        let (output, captured) = Output::capture();
        let exit = sh("seq 100000; exit 4", output).wait_for(LONG).unwrap();
        assert_eq!(exit, Some(Exit::Code(4)));
        assert_eq!(captured.stdout().lines().count(), 100_000);
    }

    #[test]
    fn the_group_ends_with_its_first_process() {
        let (output, captured) = Output::capture();
        let command = sh("sleep 60 & echo $!", output);
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Code(0)));
        let pid = captured.stdout().trim().to_owned();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let deadline = std::time::Instant::now() + LONG;
        // Gone, or a zombie that whoever adopted it has yet to reap.
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(std::time::Instant::now() < deadline, "{}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn an_escaped_process_does_not_hold_up_the_exit() {
        let command = sh("setsid sleep 5 & exit 0", Output::null());
        assert_eq!(
            command.wait_for(Duration::from_secs(4)).unwrap(),
            Some(Exit::Code(0))
        );
    }

    #[test]
    fn a_running_command_is_not_told_to_have_ended() {
        let command = sh("sleep 60", Output::null());
        assert_eq!(command.wait_for(Duration::from_millis(20)).unwrap(), None);
        command.group().signal(Signal::TERM);
        assert_eq!(command.wait_for(LONG).unwrap(), Some(Exit::Signal(15)));
    }
}
