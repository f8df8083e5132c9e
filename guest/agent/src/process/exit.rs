//! How an exit is told to clients: the members of the `end` event, in the words of Go's `os.ProcessState`, which the
//! reference implementation uses and clients show.
//!
//! | the process | exited | exit_code | status | error |
//! |---|---|---|---|---|
//! | returned 0 | true | 0 | `exit status 0` | – |
//! | returned 3 | true | 3 | `exit status 3` | `exit status 3` |
//! | was killed | false | -1 | `signal: killed` | `signal: killed` |

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Members of an `end` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitInfo {
    /// What the process returned, 0 to 255; -1 when a signal ended it.
    pub exit_code: i32,
    /// Whether it returned by itself.
    pub exited: bool,
    /// In words.
    pub status: String,
    /// In words, unless it returned 0.
    pub error: Option<String>,
}

impl From<ExitStatus> for ExitInfo {
    fn from(status: ExitStatus) -> Self {
        if let Some(code) = status.code() {
            let text = format!("exit status {code}");
            let error = (code != 0).then(|| text.clone());
            return Self {
                exit_code: code,
                exited: true,
                status: text,
                error,
            };
        }
        let mut text = format!("signal: {}", signal_name(status.signal().unwrap_or(0)));
        if status.core_dumped() {
            text.push_str(" (core dumped)");
        }
        Self {
            exit_code: -1,
            exited: false,
            error: Some(text.clone()),
            status: text,
        }
    }
}

/// Name of a signal as Go's `syscall.Signal.String` writes it on Linux.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSTKFLT => "stack fault",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        libc::SIGVTALRM => "virtual timer expired",
        libc::SIGPROF => "profiling timer expired",
        libc::SIGIO => "I/O possible",
        libc::SIGPWR => "power failure",
        libc::SIGSYS => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_table() {
        let info = |raw| ExitInfo::from(ExitStatus::from_raw(raw));
        insta::assert_debug_snapshot!(
            [info(0), info(3 << 8), info(libc::SIGKILL), info(libc::SIGSEGV | 0x80), info(34)],
            @r#"
        [
            ExitInfo {
                exit_code: 0,
                exited: true,
                status: "exit status 0",
                error: None,
            },
            ExitInfo {
                exit_code: 3,
                exited: true,
                status: "exit status 3",
                error: Some(
                    "exit status 3",
                ),
            },
            ExitInfo {
                exit_code: -1,
                exited: false,
                status: "signal: killed",
                error: Some(
                    "signal: killed",
                ),
            },
            ExitInfo {
                exit_code: -1,
                exited: false,
                status: "signal: segmentation fault (core dumped)",
                error: Some(
                    "signal: segmentation fault (core dumped)",
                ),
            },
            ExitInfo {
                exit_code: -1,
                exited: false,
                status: "signal: signal 34",
                error: Some(
                    "signal: signal 34",
                ),
            },
        ]
        "#
        );
    }
}
