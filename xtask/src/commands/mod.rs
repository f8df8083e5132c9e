//! One module per command; each has its `Args` and `run`.

pub mod contract;
pub mod demo;
pub mod doctor;
pub mod lab;
pub mod measure;
pub mod peers;
pub mod setup;
pub mod test;
pub mod up;

use anyhow::{Result, bail};

use crate::cache::Ctx;
use crate::host::Host;
use crate::lab::{Lab, LabOptions};

/// Where the daemon is to run, and how big a lab is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    /// Run on this machine's own /dev/kvm; refused where the doctor finds it unusable.
    #[arg(long, conflicts_with = "lab", global = true)]
    direct: bool,

    /// Run on the lab host, even where this machine could do it.
    #[arg(long, global = true)]
    lab: bool,

    /// Memory of the lab, in MiB, or with a G in GiB.
    #[arg(id = "lab-memory", long = "lab-memory", global = true, value_name = "SIZE", default_value = "8G", value_parser = lab::memory)]
    memory_mib: u32,
}

/// What is to be used, before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This machine.
    Direct,
    /// A lab.
    Lab,
}

impl HostArgs {
    /// Decides, asking the doctor unless told; says why.
    ///
    /// # Errors
    /// When told to run here and the doctor finds it impossible.
    pub fn place(&self, ctx: &Ctx) -> Result<Place> {
        if self.lab {
            return Ok(Place::Lab);
        }
        let report = ::doctor::report();
        if report.usable {
            return Ok(Place::Direct);
        }
        if self.direct {
            bail!(
                "{}\nSee `cargo xtask doctor`, or use the lab: --lab",
                report.verdict
            );
        }
        ctx.progress
            .line(&format!("{} Using the lab host.", report.verdict));
        Ok(Place::Lab)
    }

    /// Brings the host up.
    ///
    /// # Errors
    /// When the lab doesn't start.
    pub fn start(&self, ctx: &Ctx, place: Place) -> Result<Host> {
        match place {
            Place::Direct => Ok(Host::Direct),
            Place::Lab => {
                let mut options = LabOptions::new(ctx)?;
                options.memory_mib = self.memory_mib;
                Ok(Host::Lab(Box::new(Lab::start(ctx, &options)?)))
            }
        }
    }
}
