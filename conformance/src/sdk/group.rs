//! Child processes that end: each leads a process group of its own, and the group is killed when its time is over or when
//! nobody waits any more. Output is kept up to a size and read to its end, so that a child that talks much does not stall.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Bytes of each output that are kept.
pub const KEPT: usize = 1024 * 1024;

/// How a child ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Exit code; none when it was killed.
    pub code: Option<i32>,
    /// Whether its time was over.
    pub late: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// Whether it ended well.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0) && !self.late
    }

    /// The last lines of what it said, for a reason.
    #[must_use]
    pub fn last_words(&self) -> String {
        let all = [self.stdout.as_slice(), self.stderr.as_slice()].concat();
        let text = String::from_utf8_lossy(&all).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(4)..].join(" / ")
    }
}

/// Kills a group when dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a command to its end, or to the end of its time.
///
/// # Errors
/// When it cannot be started.
pub async fn run(mut command: Command, input: &[u8], limit: Duration) -> std::io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let group = Group(id.map(Pid::from_raw));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let whole = async {
        let fed = async {
            if let Some(mut stdin) = stdin {
                // A child that does not read its input says so by its exit code.
                let _ = stdin.write_all(input).await;
            }
        };
        tokio::join!(fed, kept(stdout, &mut out), kept(stderr, &mut err));
        child.wait().await
    };
    let ended = tokio::time::timeout(limit, whole).await;
    let (code, late) = match ended {
        Ok(status) => (status?.code(), false),
        Err(_) => (None, true),
    };
    // Also what the child left behind in its group goes.
    drop(group);
    Ok(Ended {
        code,
        late,
        stdout: out,
        stderr: err,
    })
}

async fn kept(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let room = KEPT.saturating_sub(to.len());
        to.extend_from_slice(&piece[..length.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_and_code_come_back() {
        let ended = run(
            shell("cat; echo err >&2; exit 3"),
            b"in",
            Duration::from_secs(20),
        )
        .await
        .unwrap();
        assert_eq!((ended.code, ended.late), (Some(3), false));
        assert_eq!(
            (ended.stdout.as_slice(), ended.stderr.as_slice()),
            (&b"in"[..], &b"err\n"[..])
        );
    }

    #[tokio::test]
    async fn a_child_that_goes_on_is_killed_with_its_children() {
        let script = "sleep 1000 & echo $!; wait";
        let ended = run(shell(script), b"", Duration::from_millis(500))
            .await
            .unwrap();
        assert!(ended.late);
        let pid: i32 = String::from_utf8(ended.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        for _ in 0..50 {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{pid} lives on");
    }

    #[tokio::test]
    async fn what_is_beyond_the_size_is_read_but_not_kept() {
        let ended = run(
            shell("head -c 3000000 /dev/zero"),
            b"",
            Duration::from_secs(20),
        )
        .await
        .unwrap();
        assert!(ended.ok());
        assert_eq!(ended.stdout.len(), KEPT);
    }
}
