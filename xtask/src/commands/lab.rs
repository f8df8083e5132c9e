//! `cargo xtask lab`: a command on a host with KVM.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::Ctx;
use crate::exec::{CommandLine, Exit, Output};
use crate::lab::client::{Client, RemoteCommand, RemoteInput};
use crate::lab::machine::Drive;
use crate::lab::{Lab, LabOptions, instance};
use crate::signals;

/// How often a wait looks at signals and at the lab.
const TICK: Duration = Duration::from_millis(100);

/// Run a command on a KVM-capable host, with this machine's files visible.
///
/// The host is a QEMU machine that emulates an AMD processor with SVM, so it works where
/// /dev/kvm is missing or unusable. This machine's whole file system is there, at the same
/// paths; what the command writes goes to memory and is gone afterwards, except below
/// $SANDBOXD_LAB_SHARE. The command's exit status is this command's.
///
/// It is 5 to 30 times slower than the machine itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask lab -- ls -l /dev/kvm\n  \
    cargo xtask lab --keep                      # in one terminal, Ctrl-C ends it\n  \
    cargo xtask lab --attach -- uname -a        # in others")]
pub struct Args {
    /// Memory of the lab, in MiB, or with a G in GiB.
    #[arg(long = "lab-memory", value_name = "SIZE", default_value = "8G", value_parser = memory)]
    memory_mib: u32,

    /// Keep the lab up until Ctrl-C, and print how to reach it.
    #[arg(long, conflicts_with = "attach")]
    keep: bool,

    /// Use a lab that is already up: the one at ADDRESS, or the only one.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1)]
    attach: Option<Option<SocketAddr>>,

    /// End the command and the lab after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,

    /// Longest time for one boot, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    boot_limit: u64,

    /// Folder shared read-write with the lab [default: $SANDBOXD_LAB_SHARE, else in the cache].
    #[arg(long, value_name = "FOLDER")]
    share: Option<PathBuf>,

    /// Attach FILE as a read-only disk, in the lab /dev/disk/by-serial/SERIAL.
    #[arg(long = "drive", value_name = "SERIAL=FILE", value_parser = drive)]
    drives: Vec<Drive>,

    /// Make a port of the lab reachable on 127.0.0.1; PORT alone picks a free one.
    #[arg(long = "forward", value_name = "[LOCAL:]PORT", value_parser = port_pair)]
    forwards: Vec<(Option<u16>, u16)>,

    /// Pass standard input on to the command.
    #[arg(long, short = 'i')]
    stdin: bool,

    /// The command and its arguments.
    #[arg(last = true, required_unless_present = "keep", value_name = "CMD")]
    command: Vec<String>,
}

/// Runs `cargo xtask lab`.
///
/// # Errors
/// When there is no lab or the command can't be started in it.
pub fn run(ctx: &Ctx, args: Args) -> Result<ExitCode> {
    signals::catch()?;
    let deadline = args
        .time_limit
        .map(|s| Instant::now() + Duration::from_secs(s));
    if let Some(address) = args.attach {
        let (client, share) = client(ctx, address)?;
        let command = CommandLine::new(args.command).env("SANDBOXD_LAB_SHARE", share);
        let running = client.spawn(command, Output::inherit())?;
        open(&running, args.stdin);
        return attend(&running, deadline, || Ok(()));
    }
    let mut options = LabOptions::new(ctx)?;
    options.memory_mib = args.memory_mib;
    options.boot_limit = Duration::from_secs(args.boot_limit);
    options.drives = args.drives.clone();
    if let Some(share) = &args.share {
        options.share = share.clone();
    }
    let mut lab = Lab::start(ctx, &options)?;
    for &(local, inside) in &args.forwards {
        let address = lab.forward(inside, local)?;
        ctx.progress
            .line(&format!("lab: port {inside} is {address} here"));
    }
    let code = if args.command.is_empty() {
        ExitCode::SUCCESS
    } else {
        let running = lab.spawn(CommandLine::new(args.command), Output::inherit())?;
        open(&running, args.stdin);
        attend(&running, deadline, || lab.check())?
    };
    if args.keep && signals::count() == 0 {
        let address = lab.address().context("the lab has no address")?;
        println!("lab at {address}; run commands with: cargo xtask lab --attach {address} -- CMD");
        while signals::count() == 0 && deadline.is_none_or(|at| Instant::now() < at) {
            lab.check()?;
            std::thread::sleep(TICK);
        }
    }
    Ok(code)
}

/// Hands our input on to a command, or gives it none.
fn open(running: &RemoteCommand, stdin: bool) {
    let input = running.input();
    if stdin {
        std::thread::spawn(move || feed(&input));
    } else {
        input.close();
    }
}

/// Waits for a command, handing signals on; gives the exit status to end with.
///
/// # Errors
/// When the deadline passes, `check` (asked when the connection breaks) fails, or a second
/// signal comes.
pub fn attend(
    running: &RemoteCommand,
    deadline: Option<Instant>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<ExitCode> {
    let mut seen = signals::count();
    loop {
        match running.wait_for(TICK) {
            Ok(Some(exit)) => return Ok(report(exit)),
            Ok(None) => {}
            Err(error) => {
                check()?;
                return Err(error);
            }
        }
        if signals::count() > seen {
            // The second one in a row doesn't ask any more.
            if seen > 0 {
                bail!("interrupted");
            }
            seen = signals::count();
            running.input().signal(signals::last().unwrap_or(2));
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            bail!("the time limit is over");
        }
    }
}

fn feed(input: &RemoteInput) {
    let mut buffer = vec![0; 64 * 1024];
    let mut stdin = std::io::stdin().lock();
    while let Ok(n) = stdin.read(&mut buffer) {
        if n == 0 || !input.write(&buffer[..n]) {
            break;
        }
    }
    input.close();
}

fn report(exit: Exit) -> ExitCode {
    if let Exit::Signal(signal) = exit {
        eprintln!("the command was ended by signal {signal}");
    }
    ExitCode::from(exit.shell_code())
}

fn client(ctx: &Ctx, address: Option<SocketAddr>) -> Result<(Client, String)> {
    let running = instance::running(ctx)?;
    let mut fitting = running
        .iter()
        .filter(|owner| address.is_none() || owner.address == address);
    match (fitting.next(), fitting.next()) {
        (Some(owner), None) => {
            let address = owner.address.context("the lab has no address yet")?;
            let share = owner.share.clone().unwrap_or_default();
            Ok((
                Client::new(address, &owner.token),
                share.to_string_lossy().into_owned(),
            ))
        }
        (None, _) => bail!("no such lab is up; start one with: cargo xtask lab --keep"),
        (Some(_), Some(_)) => bail!(
            "several labs are up; choose one: {}",
            running
                .iter()
                .filter_map(|owner| Some(owner.address?.to_string()))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// A size of memory in MiB: `4096` or `4096M` in MiB, `8G` in GiB.
///
/// # Errors
/// When it is something else, or outside of 1 GiB to 1 TiB.
pub fn memory(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    digits
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|mib| (1024..=1 << 20).contains(mib))
        .ok_or_else(|| "a size between 1G and 1024G, such as 8G or 4096M".to_owned())
}

fn drive(text: &str) -> Result<Drive, String> {
    let (serial, path) = text
        .split_once('=')
        .ok_or("SERIAL=FILE, such as base=rootfs.erofs")?;
    let path = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(Drive {
        serial: serial.to_owned(),
        path,
    })
}

fn port_pair(text: &str) -> Result<(Option<u16>, u16), String> {
    let port = |text: &str| match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("'{text}' is no port: 1 to 65535")),
    };
    match text.split_once(':') {
        Some((local, inside)) => Ok((Some(port(local)?), port(inside)?)),
        None => Ok((None, port(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(memory("8G"), Ok(8192));
        assert_eq!(memory("4096"), Ok(4096));
        assert_eq!(memory("4096M"), Ok(4096));
        for bad in ["", "G", "12", "-1G", "9999999G", "8GiB"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port_pair("3000"), Ok((None, 3000)));
        assert_eq!(port_pair("80:3000"), Ok((Some(80), 3000)));
        for bad in ["", "0", "x:1", "70000", "1:"] {
            assert!(port_pair(bad).is_err(), "{bad}");
        }
    }
}
