//! Mock APIs beside a daemon: compiled and run here, called by sandboxes on the daemon's host.
//!
//! ```text
//! mock-apis services SCENARIO ─▶ flags of the daemon ─▶ daemon ─▶ calls of its sandboxes ─▶ mock-apis contract, listening here
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::cache::Ctx;
use crate::cargo;
use crate::daemon::free_port;
use crate::host::Host;

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
        Ok(Self {
            program: cargo::program(ctx, "mock-apis")?,
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
