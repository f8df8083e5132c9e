//! `cargo xtask measure`: figures of a daemon brought up for them, with the official Python SDK or any program as its client.
//!
//! Nothing here asserts a time. Samples, histograms and the host's readings go to a folder; a failure or a leak is told and
//! makes the exit status bad.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::test::leaks::{self, Inventory};
use super::{HostArgs, setup};
use crate::cache::Ctx;
use crate::daemon::Daemon;
use crate::exec::{CommandLine, Output};
use crate::parts::Parts;
use crate::sdks::Sdks;
use crate::{script, signals};

/// The longest that one measurement may take. A lab is slow.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Measure a daemon brought up for it: latencies of creates, what clones share, how many sandboxes fit.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,

    #[command(flatten)]
    host: HostArgs,

    /// Where samples and histograms go [default: target/measure in the source tree].
    #[arg(long, value_name = "DIR", global = true)]
    out: Option<PathBuf>,

    /// A flag for the daemon, as in --daemon=--pool-max=0; may be repeated.
    #[arg(
        long = "daemon",
        value_name = "FLAG",
        global = true,
        allow_hyphen_values = true
    )]
    flags: Vec<String>,
}

/// What is measured.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Sandboxes created, used and killed one after the other: `accepted` and `first_exec`.
    Creates {
        /// How many.
        #[arg(long, short, default_value_t = 1_000)]
        number: u32,
        /// Made from this template.
        #[arg(long, default_value = "base")]
        template: String,
        /// Pause after each, in milliseconds.
        #[arg(long, default_value_t = 0)]
        pause_ms: u32,
    },
    /// Rounds of checkpoint, rollback, snapshot, fork, pause and resume, each checked.
    Lifecycle {
        /// How many.
        #[arg(long, short, default_value_t = 200)]
        number: u32,
        /// Made from this template.
        #[arg(long, default_value = "base")]
        template: String,
    },
    /// Clones of a warm template: nothing that is theirs alone may repeat, every clock is right.
    Clones {
        /// How many.
        #[arg(long, short, default_value_t = 64)]
        number: u32,
        /// Made from this template, which has a code interpreter.
        #[arg(long, default_value = "code-interpreter-v1")]
        template: String,
    },
    /// Sandboxes alive at the same time: what each costs, and how many fit.
    Density {
        /// How many.
        #[arg(long, short, default_value_t = 300)]
        number: u32,
        /// Made from this template, with other memory.
        #[arg(long, default_value = "base")]
        template: String,
        /// Memory of each, in MiB.
        #[arg(long, default_value_t = 256)]
        memory_mib: u32,
    },
    /// A program of yours, run here with the variables that point E2B's SDKs, `loadgen` and `e2b-conformance` at the daemon.
    #[command(
        after_help = "Example:\n  cargo xtask measure run --sandboxes 3000 -- target/release/loadgen density --out target/density"
    )]
    Run {
        /// Most sandboxes at once; how much memory they are promised together is not limited then.
        #[arg(long, value_name = "NUMBER")]
        sandboxes: Option<u32>,
        /// Serve this template alone, with other memory.
        #[arg(long, default_value = "base")]
        template: String,
        /// Memory of each, in MiB.
        #[arg(long, value_name = "MIB")]
        memory_mib: Option<u32>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// Flags of a daemon that holds so many sandboxes: how much of the memory that was promised is used is what gets measured.
fn crowd(number: u32, memory_mib: u32) -> [String; 2] {
    [
        format!("--max-sandboxes={}", number + 8),
        format!(
            "--memory-limit-mib={}",
            u64::from(number + 8) * u64::from(memory_mib + 128)
        ),
    ]
}

/// Memory of a guest, in MiB, where it is not known: only what may be promised depends on it.
const UNKNOWN_MIB: u32 = 8_192;

/// Runs `cargo xtask measure`.
///
/// # Errors
/// When set-up or the daemon fails.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    let place = args.host.place(ctx)?;
    let mut parts = setup::prepare(ctx, place)?;
    let sdks = Sdks::get(ctx)?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => ctx.workspace.join("target/measure"),
    };
    std::fs::create_dir_all(&out)?;
    let mut flags = args.flags.clone();
    let script = |name: &str, number: u32, template: &str, more: &[String]| {
        let scripts = ctx.workspace.join("tests/measure");
        let program = text(&scripts.join(format!("{name}.py")));
        let mut words = vec![text(&sdks.python), program];
        words.extend(["--number".to_owned(), number.to_string()]);
        words.extend(["--template".to_owned(), template.to_owned()]);
        words.extend_from_slice(more);
        words.extend(["--out".to_owned(), text(&out.join(name))]);
        CommandLine::new(words).cwd(&scripts)
    };
    let command = match &args.what {
        What::Creates {
            number,
            template,
            pause_ms,
        } => {
            let pause = ["--pause-ms".to_owned(), pause_ms.to_string()];
            script("creates", *number, template, &pause)
        }
        What::Lifecycle { number, template } => script("lifecycle", *number, template, &[]),
        What::Clones { number, template } => script("clones", *number, template, &[]),
        What::Density {
            number,
            template,
            memory_mib,
        } => {
            parts.templates = resized(&parts, template, *memory_mib, &out)?;
            flags.extend(crowd(*number, *memory_mib));
            flags.push("--metrics-interval-seconds=0".to_owned());
            let memory = ["--memory-mib".to_owned(), memory_mib.to_string()];
            script("density", *number, template, &memory)
        }
        What::Run {
            sandboxes,
            template,
            memory_mib,
            command,
        } => {
            if let Some(memory_mib) = memory_mib {
                parts.templates = resized(&parts, template, *memory_mib, &out)?;
            }
            if let Some(sandboxes) = sandboxes {
                flags.extend(crowd(*sandboxes, memory_mib.unwrap_or(UNKNOWN_MIB)));
            }
            CommandLine::new(command.clone())
        }
    };
    signals::catch()?;
    let host = args.host.start(ctx, place)?;
    let mut daemon = Daemon::start_with(ctx, &parts, host, None, &flags)?;
    let idle = Inventory::take(daemon.host(), daemon.folders())?;
    let mut command = script::pointed(command, &daemon, &sdks)?;
    if let What::Run { command: given, .. } = &args.what {
        command = looking(command, &daemon, given)?;
    }
    let exit = script::run(&mut daemon, &command, Output::inherit(), LIMIT)?;
    let folders = daemon.folders().clone();
    let left = leaks::settle(daemon.host(), &folders, &idle)?;
    for line in &left {
        println!("left behind: {line}");
    }
    if left.is_empty() {
        println!("leaks: none (processes, devices, mounts, files, cgroups, sockets as before)");
    }
    drop(daemon.stop()?);
    let good = exit.success() && left.is_empty();
    Ok(ExitCode::from(u8::from(!good)))
}

/// Adds how the daemon's host is looked at: `SANDBOXD_HOST_COMMAND` runs a command there, `LOADGEN_PROBE_COMMAND` is for
/// `loadgen`, if that is what runs.
fn looking(mut command: CommandLine, daemon: &Daemon, given: &[String]) -> Result<CommandLine> {
    let mut words = daemon.host().prefix()?;
    command = command.env("SANDBOXD_HOST_COMMAND", words.join(" "));
    let program = given.first().map_or("", String::as_str);
    let name = Path::new(program).file_name().unwrap_or_default();
    if name.to_string_lossy().starts_with("loadgen") {
        words.push(match program.contains('/') {
            true => text(&std::path::absolute(program)?),
            false => program.to_owned(),
        });
        words.push("probe".to_owned());
        command = command.env("LOADGEN_PROBE_COMMAND", words.join(" "));
    }
    Ok(command)
}

/// A folder of templates with one alone, of another size.
fn resized(parts: &Parts, template: &str, memory_mib: u32, out: &Path) -> Result<PathBuf> {
    let source = parts.templates.join(template);
    let described = source.join("template.json");
    let read = std::fs::read(&described)
        .with_context(|| format!("there is no template {template} ({})", described.display()))?;
    let mut description: serde_json::Value = serde_json::from_slice(&read)?;
    description["memory_mib"] = memory_mib.into();
    let rootfs = description["rootfs"].as_str().unwrap_or("rootfs.erofs");
    description["rootfs"] = text(&std::fs::canonicalize(source.join(rootfs))?).into();
    let folder = out.join("templates");
    let target = folder.join(template);
    std::fs::create_dir_all(&target)?;
    std::fs::write(target.join("template.json"), description.to_string())?;
    Ok(folder)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
