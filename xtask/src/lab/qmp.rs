//! A client of QEMU's machine protocol, over the pipes of QEMU's standard input and output.
//!
//! ```text
//! QEMU   {"QMP":{…}}                              greeting
//! us     {"execute":"qmp_capabilities"}           → {"return":{}}
//! us     {"execute":"…","arguments":{…}}          → {"return":…} | {"error":{"desc":"…"}}
//! QEMU   {"event":"…"}                            at any time; skipped
//! ```
//!
//! Over pipes no socket has to be named, and none is left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The longest a command may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection on which commands may be given.
#[derive(Debug)]
pub struct Qmp<W> {
    to: W,
    lines: Receiver<Value>,
}

impl<W: Write> Qmp<W> {
    /// Takes the greeting and leaves negotiation.
    ///
    /// # Errors
    /// When QEMU says something else or nothing.
    pub fn open(to: W, from: impl Read + Send + 'static) -> Result<Self> {
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let Ok(line) = line else { break };
                let Ok(value) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if value.get("event").is_none() && send.send(value).is_err() {
                    break;
                }
            }
        });
        let mut qmp = Self { to, lines };
        let greeting = qmp.next()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Gives a command and its return value.
    ///
    /// # Errors
    /// When QEMU refuses it, ends, or doesn't answer in time.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.to, "{request}").context("QEMU is gone")?;
        self.to.flush()?;
        let answer = self.next()?;
        match (answer.get("return"), answer.pointer("/error/desc")) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(why)) => bail!("QEMU refused {command}: {why}"),
            (None, None) => bail!("QEMU answered {command} with {answer}"),
        }
    }

    /// Gives a command of the human monitor; what it prints is its error.
    ///
    /// # Errors
    /// When it prints anything.
    pub fn monitor(&mut self, line: &str) -> Result<()> {
        let printed = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        match printed.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(error) => bail!("QEMU: {error}"),
        }
    }

    fn next(&mut self) -> Result<Value> {
        self.lines
            .recv_timeout(TIMEOUT)
            .context("QEMU ended or does not answer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(script: &'static str) -> Result<Qmp<Vec<u8>>> {
        Qmp::open(Vec::new(), script.as_bytes())
    }

    #[test]
    fn events_are_skipped() {
        let mut qmp = qemu(
            "{\"QMP\":{}}\n{\"event\":\"NIC\"}\n{\"return\":{}}\n{\"event\":\"X\"}\n\
             {\"return\":\"\"}\n{\"return\":\"could not set up\\r\\n\"}\n\
             {\"error\":{\"class\":\"G\",\"desc\":\"no such device\"}}\n",
        )
        .unwrap();
        qmp.monitor("hostfwd_add …").unwrap();
        let error = qmp.monitor("hostfwd_add …").unwrap_err().to_string();
        assert_eq!(error, "QEMU: could not set up");
        let error = qmp
            .execute("device_del", &json!({}))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "QEMU refused device_del: \"no such device\"");
    }

    #[test]
    fn an_early_end_is_an_error() {
        assert!(qemu("").is_err());
        assert!(qemu("{\"QMP\":{}}\n").is_err());
    }
}
