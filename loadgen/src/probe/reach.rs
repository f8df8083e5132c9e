//! Ways to a reading.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::reading::{Question, Reading, here};

/// The longest that a reading may take: smaps of thousands of processes take their time.
const LIMIT: Duration = Duration::from_secs(900);
/// Longest reading that is taken.
const MAX_READING: u64 = 1 << 20;

/// Why a host cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The collector is not reached, or breaks off.
    #[error("the probe at {address} cannot be read: {source}")]
    Remote {
        /// Where it should be.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command does not run.
    #[error("the probe's command `{command}` cannot be run: {source}")]
    Command {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command fails.
    #[error("the probe's command `{command}` ended with {status}: {told}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        told: String,
    },
    /// What came is no reading.
    #[error("what the probe said is no reading: {0}")]
    Reading(#[from] serde_json::Error),
    /// It took too long.
    #[error("the probe said nothing within {LIMIT:?}")]
    Late,
}

/// A way to a host.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What to look for.
    pub question: Question,
    /// How.
    pub way: Way,
}

/// See the module above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// This machine.
    Here,
    /// A collector's address.
    Remote(String),
    /// A command's words.
    Command(Vec<String>),
}

impl Probe {
    /// One that is asked what machine it is, and looks for nothing.
    #[must_use]
    pub fn of_machine(way: Way) -> Self {
        let question = Question {
            process: String::new(),
            daemon: String::new(),
            guest_bytes: None,
            folders: Vec::new(),
        };
        Self { question, way }
    }

    /// Reads; with the memory of a guest's size also the memory of processes.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub async fn read(&self, guest_bytes: Option<u64>) -> Result<Reading, ProbeError> {
        let question = Question {
            guest_bytes,
            ..self.question.clone()
        };
        let read = async {
            match &self.way {
                Way::Here => Ok(here(&question)),
                Way::Remote(address) => remote(address, &question).await,
                Way::Command(words) => command(words, &question).await,
            }
        };
        tokio::time::timeout(LIMIT, read)
            .await
            .map_err(|_| ProbeError::Late)?
    }
}

async fn remote(address: &str, question: &Question) -> Result<Reading, ProbeError> {
    let failed = |source| ProbeError::Remote {
        address: address.to_owned(),
        source,
    };
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let line = serde_json::to_string(question)? + "\n";
    stream.write_all(line.as_bytes()).await.map_err(failed)?;
    let mut told = String::new();
    let mut reader = BufReader::new(stream.take(MAX_READING));
    reader.read_line(&mut told).await.map_err(failed)?;
    Ok(serde_json::from_str(&told)?)
}

async fn command(words: &[String], question: &Question) -> Result<Reading, ProbeError> {
    let shown = words.join(" ");
    let failed = |source| ProbeError::Command {
        command: shown.clone(),
        source,
    };
    let [program, args @ ..] = words else {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    };
    let run = tokio::process::Command::new(program)
        .args(args)
        .arg("--question")
        .arg(serde_json::to_string(question)?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = run.await.map_err(failed)?;
    if !output.status.success() {
        return Err(ProbeError::Failed {
            command: shown,
            status: output.status,
            told: crate::e2b::error::short(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
