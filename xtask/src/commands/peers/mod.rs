//! `cargo xtask peers`: another VMM beside ours, on one host, in one run.
//!
//! ```text
//!   here                                     the measured host (this machine, or a lab)
//!   parts ─► plan ──────── arguments ──────► driver: templates, blocks in the order of the plan
//!   report ◄─ summary ◄─ records ◄─ standard output ┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is measured, in which order |
//! | `driver/` | the only part that touches machines |
//! | `record` | raw samples |
//! | `results` | the same run in the schema of all tools |
//! | `summary`, `report` | figures out of them, pure; the statistics are those of `reports` |

mod driver;
mod plan;
mod record;
mod report;
mod results;
mod summary;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

pub use self::driver::run as drive;
use self::plan::{Plan, Session};
use self::record::{Outcome, Record};
use self::report::Report;
use super::{HostArgs, setup};
use crate::cache::Ctx;
use crate::exec::{CommandLine, Exit, Output};
use crate::host::Host;
use crate::parts::Parts;
use crate::{cargo, signals};

/// How often signals and the host are looked at.
const TICK: Duration = Duration::from_millis(200);

/// Measure our VMM beside another one: restore, pause, snapshots, rollback, memory.
///
/// Both run on the same host with the same guest kernel, disks and agent, taking turns, so
/// that ratios mean something; times are those of the host. Everything lies in memory, and
/// programs are started as they are really used. Nothing here judges: it prints.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    peer: Peer,

    #[command(flatten)]
    host: HostArgs,
}

/// The peer.
#[derive(Debug, clap::Subcommand)]
enum Peer {
    /// Firecracker, through its API.
    Firecracker(Firecracker),
}

#[derive(Debug, clap::Args)]
struct Firecracker {
    /// Its program: a release build, from its project's releases or its sources.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// Restores of each arm at each concurrency, at least.
    #[arg(long, short, default_value_t = 200)]
    number: usize,

    /// Machines asked for at once.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 8, 50])]
    concurrency: Vec<usize>,

    /// Guest memory in MiB; 0 is the template's.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [256])]
    memory: Vec<u32>,

    /// The image in both.
    #[arg(long, default_value = "base")]
    template: String,

    /// Rounds of pause, snapshots and rollback.
    #[arg(long, default_value_t = 40)]
    operations: usize,

    /// Machines side by side when memory is read; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 20)]
    machines: usize,

    /// Where raw samples go [default: target/peers/samples.jsonl in the source tree].
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,

    /// Also write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Also write the run in the schema of all tools, for `reports render`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `cargo xtask peers`.
///
/// # Errors
/// When set-up fails, or the driver does.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    let Peer::Firecracker(options) = &args.peer;
    let binary = binary(options.binary.as_deref())?;
    ensure!(
        options.concurrency.iter().all(|n| (1..=512).contains(n)),
        "--concurrency takes numbers from 1 to 512"
    );
    let place = args.host.place(ctx)?;
    let parts = setup::prepare(ctx, place)?;
    let program = program(ctx)?;
    let plan = plan(&parts, options, binary)?;
    let samples = match &options.samples {
        Some(path) => path.clone(),
        None => ctx.workspace.join("target/peers/samples.jsonl"),
    };
    if let Some(folder) = samples.parent() {
        std::fs::create_dir_all(folder)?;
    }
    signals::catch()?;
    let started_at = jiff::Timestamp::now();
    let mut host = args.host.start(ctx, place)?;
    let words = [
        program.to_string_lossy().into_owned(),
        "peers-drive".into(),
        serde_json::to_string(&plan)?,
    ];
    drive_on(&mut host, CommandLine::new(words).cwd("/"), &samples)?;
    let place = host.name().to_owned();
    drop(host);
    let records = read(&samples)?;
    let report = Report {
        place,
        revision: revision(ctx),
        command: command(),
        summary: summary::summarize(&records),
    };
    println!("{report}");
    println!("Raw samples: {}", samples.display());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    if let Some(out) = &options.out {
        let run = results::Run {
            started_at,
            ended_at: jiff::Timestamp::now(),
            template: options.template.clone(),
            command: std::env::args().skip(1).collect(),
        };
        results::write(out, &report, &records, &run)?;
        println!("In the schema of all tools: {}", out.display());
    }
    let failed = records.iter().any(|record| {
        matches!(record, Record::Sample(sample) if matches!(sample.outcome, Outcome::Failed(_)))
    });
    Ok(ExitCode::from(u8::from(failed)))
}

/// The peer's program, as the measured host sees it too.
fn binary(given: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = given else {
        bail!(
            "--binary is missing: the path of a `firecracker` program, for this processor, of the kind that is really \
             used (a release build, optimized). Its project publishes such programs with each release; its sources \
             build one too. It is not a part of this project and is never fetched by it."
        );
    };
    let path = std::fs::canonicalize(path)
        .with_context(|| format!("there is no program {}", path.display()))?;
    ensure!(path.is_file(), "{} is no program", path.display());
    Ok(path)
}

/// This program, optimized: its own time is a part of every reading, of both sides.
fn program(ctx: &Ctx) -> Result<PathBuf> {
    let task = ctx.progress.task("driver");
    let log = ctx.cache.dir("logs")?.join("driver.log");
    std::fs::write(&log, "")?;
    let target = cargo::target(ctx, "programs")?;
    let words = [
        "build",
        "--release",
        "--locked",
        "--package",
        "xtask",
        "--target-dir",
    ];
    task.run(cargo::cargo(ctx).args(words).arg(&target), &log)?;
    task.done("");
    Ok(target.join("release/xtask").canonicalize()?)
}

fn plan(parts: &Parts, options: &Firecracker, firecracker: PathBuf) -> Result<Plan> {
    let folder = parts.templates.join(&options.template);
    let described = folder.join("template.json");
    let text = std::fs::read_to_string(&described).with_context(|| {
        format!(
            "there is no template {} ({})",
            options.template,
            described.display()
        )
    })?;
    let template: Template = serde_json::from_str(&text)
        .with_context(|| format!("{} isn't what was expected", described.display()))?;
    let memory = |&mib: &u32| if mib == 0 { template.memory_mib } else { mib };
    Ok(Plan {
        firecracker,
        microvm: parts.microvm.clone(),
        kernel: parts.kernel.clone(),
        agent_disk: parts.agent_disk.clone(),
        rootfs: std::fs::canonicalize(folder.join(&template.rootfs))?,
        overlay: parts.overlay.clone(),
        overlay_pieces: driver::files::pieces(&parts.overlay)?,
        memory_mib: options.memory.iter().map(memory).collect(),
        session: Session {
            template: options.template.clone(),
            user: template.user,
            workdir: template.workdir,
            code_interpreter: template.code_interpreter,
        },
        samples: options.number,
        concurrency: options.concurrency.clone(),
        operations: options.operations,
        memory_vms: options.machines,
    })
}

/// What is needed of `template.json`.
#[derive(Debug, serde::Deserialize)]
struct Template {
    rootfs: PathBuf,
    memory_mib: u32,
    user: String,
    workdir: String,
    code_interpreter: bool,
}

/// Runs the driver; what it prints goes to `samples`.
fn drive_on(host: &mut Host, command: CommandLine, samples: &Path) -> Result<()> {
    let file =
        File::create(samples).with_context(|| format!("could not write {}", samples.display()))?;
    let output = Output {
        stdout: Box::new(file),
        stderr: Box::new(std::io::stderr()),
    };
    let running = host.spawn(command, output)?;
    let mut told = false;
    loop {
        match running.wait_for(TICK) {
            Ok(Some(exit)) if exit.success() => return Ok(()),
            Ok(Some(Exit::Code(_))) if told => bail!("interrupted"),
            Ok(Some(exit)) => bail!("the driver ended with {exit}"),
            Ok(None) => {}
            Err(error) => {
                host.check()?;
                return Err(error);
            }
        }
        if signals::count() > 0 && !told {
            told = true;
            running.signal(Signal::TERM);
        }
    }
}

fn read(samples: &Path) -> Result<Vec<Record>> {
    let lines = BufReader::new(File::open(samples)?).lines();
    lines
        .map(|line| {
            let line = line?;
            serde_json::from_str(&line).with_context(|| format!("not a record: {line}"))
        })
        .collect()
}

/// The revision of the source tree; `unknown` outside of a repository.
fn revision(ctx: &Ctx) -> String {
    let told = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(&ctx.workspace)
        .output();
    match told {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

/// What was typed.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", words.join(" "))
}
