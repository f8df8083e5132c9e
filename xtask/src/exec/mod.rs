//! Running a command on a host, wherever that host is: the types that direct and lab share.

pub mod local;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

/// A command to run. Its environment is exactly `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLine {
    /// Program (looked up in `PATH` of `env`) and its arguments; never empty.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working folder.
    pub cwd: PathBuf,
}

impl CommandLine {
    /// `argv` with this process's environment and working folder.
    ///
    /// Variables and folders that are no UTF-8 are left out.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env,
            cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        }
    }

    /// Sets one variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = dir.into();
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this status, 0–255.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status a shell would show: the exit status, or 128 + the signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code).unwrap_or(1),
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Code(255),
        }
    }
}

/// Where one of a command's streams goes.
pub type Sink = Box<dyn Write + Send>;

/// Where a command's output goes.
pub struct Output {
    /// Takes standard output.
    pub stdout: Sink,
    /// Takes standard error.
    pub stderr: Sink,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// To this process's own standard output and error.
    #[must_use]
    pub fn inherit() -> Self {
        Self {
            stdout: Box::new(Unbuffered(io::stdout())),
            stderr: Box::new(io::stderr()),
        }
    }

    /// Nowhere.
    #[cfg(test)]
    #[must_use]
    pub fn null() -> Self {
        Self {
            stdout: Box::new(io::sink()),
            stderr: Box::new(io::sink()),
        }
    }

    /// Both to one file, appended.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn file(path: &std::path::Path) -> io::Result<Self> {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)?;
        Ok(Self {
            stdout: Box::new(file.try_clone()?),
            stderr: Box::new(file),
        })
    }

    /// Both to memory, as they come.
    #[must_use]
    pub fn capture() -> (Self, Captured) {
        let stdout = Buffer::default();
        let stderr = Buffer::default();
        let output = Self {
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
        };
        (output, Captured { stdout, stderr })
    }
}

/// Output caught in memory; read it after the command ended.
#[derive(Debug, Clone)]
pub struct Captured {
    stdout: Buffer,
    stderr: Buffer,
}

impl Captured {
    /// Standard output, as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error, as text.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

/// The most that is kept of a captured stream; what comes after is dropped.
const CAPTURE_LIMIT: usize = 16 << 20;

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        let bytes = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = CAPTURE_LIMIT.saturating_sub(bytes.len());
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes through at once: a line without an end must be seen too.
struct Unbuffered<W: Write>(W);

impl<W: Write> Write for Unbuffered<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.0.write(data)?;
        self.0.flush()?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Copies until the end of `from`; a sink that fails is not written to again, so that the
/// command never blocks on a reader that went away.
pub fn pump(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    let mut open = true;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => open = open && to.write_all(&buffer[..n]).is_ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = to.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_shows_as_a_shell_shows_it() {
        assert_eq!(Exit::Signal(9).shell_code(), 137);
        assert_eq!(Exit::Code(3).shell_code(), 3);
    }

    #[test]
    fn capture_is_bounded() {
        let mut buffer = Buffer::default();
        for _ in 0..3 {
            buffer.write_all(&vec![b'x'; CAPTURE_LIMIT / 2]).unwrap();
        }
        assert_eq!(buffer.text().len(), CAPTURE_LIMIT);
    }

    #[test]
    fn pump_drains_even_when_nobody_listens() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let data = vec![7_u8; 200_000];
        let mut from = io::Cursor::new(data);
        pump(&mut from, Broken);
        assert_eq!(from.position(), 200_000);
    }
}
