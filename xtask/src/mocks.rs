//! Mock APIs beside a daemon: compiled and run here, called by sandboxes on the daemon's host.
//!
//! ```text
//! mock-apis services SCENARIO ─▶ flags of the daemon ─▶ daemon ─▶ calls of its sandboxes ─▶ mock-apis contract, listening here
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::cache::Ctx;
use crate::cargo;
use crate::daemon::free_port;
use crate::host::Host;
use crate::progress;

/// The program, and where it is to listen.
#[derive(Debug)]
pub struct Mocks {
    /// The program.
    pub program: PathBuf,
    /// Address for its `--listen`.
    pub listen: SocketAddr,
}

impl Mocks {
    /// Compiles the program; cargo knows what is out of date.
    ///
    /// # Errors
    /// When it does not compile, or no port is free.
    pub fn get(ctx: &Ctx) -> Result<Self> {
        let task = ctx.progress.task("mock APIs");
        let log = ctx.cache.dir("logs")?.join("mock-apis.log");
        let mut build = cargo::cargo(ctx);
        // The whole workspace's features, so that what its tests compiled will do.
        build.args(["build", "--locked", "--workspace", "--bin", "mock-apis"]);
        build.args(["--message-format", "json"]);
        let output = build.stdin(Stdio::null()).output();
        let output = output.context("could not start cargo")?;
        std::fs::write(&log, &output.stderr)?;
        ensure!(
            output.status.success(),
            "mock-apis does not compile:\n{}",
            progress::tail(&log)
        );
        let program = executable(&String::from_utf8_lossy(&output.stdout));
        task.done("");
        Ok(Self {
            program: program.context("cargo built no mock-apis")?,
            listen: SocketAddr::from(([127, 0, 0, 1], free_port(None)?)),
        })
    }

    /// Flags with which a daemon on `host` leads its sandboxes to the services of `scenario`.
    ///
    /// # Errors
    /// When the scenario cannot be read: with what is wrong in it.
    pub fn flags(&self, host: &Host, scenario: &Path) -> Result<Vec<String>> {
        let output = std::process::Command::new(&self.program)
            .arg("services")
            .arg(scenario)
            .args(["--target", &host.way_back(self.listen.port())])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        let flags = String::from_utf8(output.stdout)?;
        Ok(flags.lines().map(str::to_owned).collect())
    }
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == "mock-apis";
        let path = message["executable"].as_str()?;
        ours.then(|| path.into())
    })
}
