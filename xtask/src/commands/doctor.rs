//! `cargo xtask doctor`: can this machine serve sandboxes, directly or in a lab?

use std::process::ExitCode;

use anyhow::Result;
use doctor::{Check, Style};
use serde_json::json;

use crate::cache::Ctx;
use crate::exec::{CommandLine, Output};
use crate::lab::{Lab, LabOptions};
use crate::packages::on_path;

/// Memory that a lab with its defaults needs free, in MiB: its own 8 GiB and QEMU's.
const LAB_MIB: u64 = 9 * 1024;

/// Say whether this machine can serve sandboxes, with a reason and a remedy per finding.
///
/// A guest is really run on /dev/kvm. The exit status is 0 when sandboxes can be served
/// directly, 1 when not (the lab may still do).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Start a lab and examine that instead of this machine.
    #[arg(long)]
    lab: bool,
}

/// Runs `cargo xtask doctor`.
///
/// # Errors
/// When a lab is asked for and can't be started.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    if args.lab {
        return in_lab(ctx, args.json);
    }
    let report = doctor::report();
    let lab = lab_check(&Facts::gather(ctx));
    if args.json {
        println!("{:#}", json!({ "direct": report, "lab": lab }));
    } else {
        print!("{}", doctor::render(&report, Style::for_stdout()));
        println!(
            "\nThe lab host (KVM in an emulated machine): {}. {}",
            lab.found, lab.reason
        );
        if let Some(remedy) = &lab.remedy {
            println!("  → {remedy}");
        }
    }
    Ok(if report.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn in_lab(ctx: &Ctx, json: bool) -> Result<ExitCode> {
    crate::signals::catch()?;
    let lab = Lab::start(ctx, &LabOptions::new(ctx)?)?;
    let own = lab.program().to_string_lossy().into_owned();
    let mut words = vec![own, "doctor".to_owned()];
    words.extend(json.then(|| "--json".to_owned()));
    let running = lab.spawn(CommandLine::new(words), Output::inherit())?;
    running.input().close();
    super::lab::attend(&running, None, || Ok(()))
}

/// What decides whether a lab can be had here.
#[derive(Debug, Clone, Copy)]
struct Facts {
    x86_64: bool,
    /// Its image is in the cache.
    built: bool,
    /// apt and dpkg are there to make it.
    apt: bool,
    available_mib: u64,
}

impl Facts {
    fn gather(ctx: &Ctx) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            x86_64: cfg!(target_arch = "x86_64"),
            built: ctx.cache.root().join("artifacts/lab/initramfs").is_dir(),
            apt: on_path("apt-get").is_some() && on_path("dpkg-deb").is_some(),
            available_mib: available_mib(&meminfo).unwrap_or(0),
        }
    }
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

fn lab_check(facts: &Facts) -> Check {
    const NAME: &str = "lab";
    if !facts.x86_64 {
        return Check::fail(
            NAME,
            "not usable",
            "It runs x86-64 programs of this machine, which is of another kind.",
            "use an x86-64 machine",
        );
    }
    if !facts.built && !facts.apt {
        return Check::fail(
            NAME,
            "not usable",
            "It is made of Debian packages, and this system has no apt to fetch them.",
            "run it on Debian or a system derived from it",
        );
    }
    if facts.available_mib < LAB_MIB {
        return Check::warn(
            NAME,
            "usable with less memory",
            format!(
                "{} MiB are available, its default needs {LAB_MIB}.",
                facts.available_mib
            ),
            "add --lab-memory 4G, or free memory",
        );
    }
    if facts.built {
        Check::ok(
            NAME,
            "usable",
            "It is built: `cargo xtask lab -- CMD` starts it.",
        )
    } else {
        Check::ok(NAME, "usable", "`cargo xtask setup` builds it.")
    }
}

#[cfg(test)]
mod tests {
    use doctor::Status;

    use super::*;

    const GOOD: Facts = Facts {
        x86_64: true,
        built: true,
        apt: true,
        available_mib: 16_000,
    };

    #[test]
    fn a_built_lab_needs_no_apt() {
        assert_eq!(lab_check(&Facts { apt: false, ..GOOD }).status, Status::Ok);
        let neither = Facts {
            apt: false,
            built: false,
            ..GOOD
        };
        assert_eq!(lab_check(&neither).status, Status::Fail);
    }

    #[test]
    fn little_memory_is_a_warning_with_a_remedy() {
        let check = lab_check(&Facts {
            available_mib: 4000,
            ..GOOD
        });
        assert_eq!(check.status, Status::Warn);
        assert!(check.remedy.is_some_and(|r| r.contains("--lab-memory")));
    }

    #[test]
    fn available_memory() {
        assert_eq!(
            available_mib("MemTotal: 1 kB\nMemAvailable:   20480 kB\n"),
            Some(20)
        );
        assert_eq!(available_mib(""), None);
    }
}
