//! Restore to answer: how long a prepared process takes to become a clone that has answered.
//!
//! ```text
//!   once per program:   boot ─► configure ─► warm up ─► snapshot ─► clone, first call ─► working set noted
//!   each round, each way, in turn (A B C, C B A, …):
//!     spawn ─► prepare (─► stage) ─┤ restore ─► agent answers ─► configured ─► /bin/true has ended ├─► counters ─► killed
//!                              clock starts                                                   clock stops
//! ```
//!
//! A way is a program and what it has ahead: `bare` (nothing), `set` (the working set noted), `staged` (brought in before the
//! clock starts). Several builds of the program are compared by `--program NAME=PATH`. It prints quantiles by rank, those only
//! that the number of rounds supports (P95 from 200 on, P99 from 1,000 on), the median of each stage, and for each way the
//! median of its ratio to the first way in the same round with its 95 % interval from order statistics.
//!
//! It needs what the tests with guests need (see `tests/guest.rs`) and says what is missing. On the lab host:
//!
//! ```text
//!   cargo bench -p vmm --bench restore --no-run
//!   cargo xtask lab -- env SANDBOXD_KERNEL=… SANDBOXD_AGENT_DISK=… SANDBOXD_OVERLAY_BASE=… SANDBOXD_TEMPLATES=… target/release/deps/restore-…
//! ```

// What is measured is far below 2^52.
#![allow(clippy::cast_precision_loss)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use vmm::control::{Booted, Client, Op, Ready, Recorded, Restored, StageArgs, Stats};
use vmm::machine::Shape;
use vmm::snapshot::Kind;

use self::common::{Agent, Artifacts, Guest, run, write};

/// Measures restore to answer.
#[derive(Parser)]
struct Options {
    /// Rounds that are measured; one more goes first.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Guest memory in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Image of the guest.
    #[arg(long, default_value = "base")]
    image: String,
    /// What is there ahead.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Ahead::Bare, Ahead::Set, Ahead::Staged])]
    ahead: Vec<Ahead>,
    /// A build of the `microvm` program, as NAME=PATH; this build's when none is given.
    #[arg(long = "program", value_name = "NAME=PATH")]
    programs: Vec<String>,
    /// File that every measured value is appended to, a JSON object per line.
    #[arg(long)]
    raw: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ahead {
    Bare,
    Set,
    Staged,
}

/// A program and its template.
struct Build {
    name: String,
    program: PathBuf,
    folder: tempfile::TempDir,
    shape: Shape,
}

/// One clone: named durations in nanoseconds, and counts.
#[derive(Default)]
struct Sample(BTreeMap<String, u64>);

impl Sample {
    fn note(&mut self, name: &str, value: impl TryInto<u64>) {
        let value = value.try_into().unwrap_or(u64::MAX);
        self.0.insert(name.to_owned(), value);
    }
}

fn main() {
    let options = Options::parse();
    let Some(artifacts) = Artifacts::with_image(&options.image) else {
        return;
    };
    let own = format!("this={}", env!("CARGO_BIN_EXE_microvm"));
    let programs = match options.programs.is_empty() {
        true => vec![own],
        false => options.programs.clone(),
    };
    let builds: Vec<Build> = programs
        .iter()
        .map(|text| {
            let (name, path) = text.split_once('=').expect("NAME=PATH");
            Build::new(name, Path::new(path), &artifacts, &options)
        })
        .collect();
    let ways: Vec<(&Build, Ahead)> = builds
        .iter()
        .flat_map(|build| options.ahead.iter().map(move |&ahead| (build, ahead)))
        .collect();
    let mut samples: Vec<Vec<Sample>> = ways.iter().map(|_| Vec::new()).collect();
    for round in 0..=options.rounds {
        let mut order: Vec<usize> = (0..ways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (build, ahead) = ways[index];
            let sample = build.clone_once(ahead, &options);
            if round > 0 {
                keep(&options, round, build, ahead, &sample);
                samples[index].push(sample);
            }
        }
    }
    println!(
        "restore to answer: {} rounds, image {}, {} MiB, {}",
        options.rounds,
        options.image,
        options.memory,
        std::fs::read_to_string("/proc/version")
            .unwrap_or_default()
            .trim()
    );
    for ((build, ahead), samples_of) in ways.iter().zip(&samples) {
        report(build, *ahead, samples_of, &samples[0]);
    }
}

impl Build {
    /// Makes the template's snapshot and notes its working set, as the daemon does.
    fn new(name: &str, program: &Path, artifacts: &Artifacts, options: &Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let template = folder.path().join("template");
        let guest = Guest::start_program(program);
        let mut config = guest.config(artifacts, "");
        (config.vcpus, config.memory_mib) = (1, options.memory);
        let shape = Shape::of(&config);
        let mut control = guest.client();
        let boot = Op::Boot(Box::new(config));
        control.call::<Booted>(boot).expect("it boots");
        let interpreter = options.image != "base";
        let mut agent = guest.agent();
        agent.configure(interpreter);
        agent.order("warm_up", r#"{"depth":"template"}"#);
        drop(agent);
        control.order(Op::Pause).expect("it stands still");
        write(&mut control, &template, Kind::Full, false);
        drop(guest);

        let clone = Guest::start_program(program);
        let mut control = clone.client();
        let mut args = clone.restore(&template);
        args.record = true;
        let restore = Op::Restore(Box::new(args));
        control.call::<Restored>(restore).expect("it is restored");
        let mut agent = clone.agent();
        agent.configure(interpreter);
        agent.order("warm_up", r#"{"depth":"first_call"}"#);
        run(&clone, "/bin/true");
        let recorded: Recorded = control.call(Op::Record).expect("it is noted");
        println!("{name}: working set {recorded:?}");

        let bare = folder.path().join("bare");
        std::fs::create_dir(&bare).expect("a folder");
        for entry in std::fs::read_dir(&template).expect("a snapshot") {
            let entry = entry.expect("a file");
            if entry.file_name() != vmm::snapshot::working_set::NAME {
                let to = bare.join(entry.file_name());
                std::fs::hard_link(entry.path(), to).expect("a link");
            }
        }
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            folder,
            shape,
        }
    }

    fn clone_once(&self, ahead: Ahead, options: &Options) -> Sample {
        let dir = self.folder.path().join(match ahead {
            Ahead::Bare => "bare",
            Ahead::Set | Ahead::Staged => "template",
        });
        let clone = Guest::start_program(&self.program);
        let mut control = clone.client();
        let mut sample = Sample::default();
        let prepare = Op::Prepare(Box::new(self.shape.clone()));
        control.call::<Ready>(prepare).expect("it is prepared");
        if ahead == Ahead::Staged {
            let stage = Op::Stage(Box::new(StageArgs { dir: dir.clone() }));
            let ready: Ready = control.call(stage).expect("it is staged");
            sample.note("ahead: stage", ready.stages.total_ns());
        }
        let args = Op::Restore(Box::new(clone.restore(&dir)));
        let before = pages();
        mark("restore");
        let start = Instant::now();
        let restored: Restored = control.call(args).expect("it is restored");
        let made = start.elapsed();
        mark("restored");
        let mut agent = Agent::connect(&clone.path("vsock.sock")).expect("a connection");
        let connected = start.elapsed();
        mark("connected");
        agent.hello(1).expect("an answer");
        let answered = start.elapsed();
        mark("answered");
        let answer_exits = exits(&mut control);
        let at_answer = kvm_counters(clone.child.id());
        let asked = Instant::now();
        agent.configure(options.image != "base");
        let configured = asked.elapsed();
        mark("configured");
        run(&clone, "/bin/true");
        let ran = asked.elapsed();
        mark("ran");
        sample.note("1 restore to answer", answered.as_nanos());
        sample.note("2 restore call", made.as_nanos());
        sample.note("3 connect", (connected - made).as_nanos());
        sample.note("4 hello", (answered - connected).as_nanos());
        sample.note("5 configure", configured.as_nanos());
        sample.note("6 first command", (ran - configured).as_nanos());
        sample.note("7 restore to first command", (answered + ran).as_nanos());
        for (index, (stage, ns)) in restored.stages.0.iter().enumerate() {
            sample.note(&format!("stage {index} {stage}"), *ns);
        }
        let unit = |name: &str| format!("count {name}");
        sample.note(&unit("exits to user space until answer"), answer_exits);
        sample.note(&unit("exits to user space"), exits(&mut control));
        for (name, value) in at_answer {
            sample.note(&unit(&format!("kvm {name} until answer")), value);
        }
        for (name, value) in kvm_counters(clone.child.id()) {
            sample.note(&unit(&format!("kvm {name}")), value);
        }
        sample.note(&unit("host page faults"), pages().saturating_sub(before));
        sample
    }
}

/// Leaves a mark in the host's trace, if one is being taken (Linux, Documentation/trace/ftrace.rst, `trace_marker`).
fn mark(what: &str) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open("/sys/kernel/tracing/trace_marker");
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("bench: {what}\n").as_bytes());
    }
}

/// Exits that reached user space.
fn exits(control: &mut Client) -> u64 {
    let stats: Stats = control.call(Op::Stats).expect("an answer");
    let exits = stats.vcpu_exits;
    exits.pio_read + exits.pio_write + exits.mmio_read + exits.mmio_write
}

/// Page faults of the whole host.
fn pages() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("pgfault "));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// What KVM counts for the VM of process `pid`, where debugfs is mounted.
fn kvm_counters(pid: u32) -> Vec<(String, u64)> {
    let folder = std::fs::read_dir("/sys/kernel/debug/kvm").ok();
    let own = format!("{pid}-");
    let folder = folder.and_then(|mut entries| {
        entries.find_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            name.to_str()?.starts_with(&own).then(|| entry.path())
        })
    });
    let Some(folder) = folder else {
        return Vec::new();
    };
    let names = [
        "exits",
        "halt_exits",
        "pf_taken",
        "pf_fixed",
        "irq_exits",
        "irq_injections",
    ];
    let counters = names.iter().filter_map(|name| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(((*name).to_owned(), text.trim().parse().ok()?))
    });
    counters.collect()
}

fn keep(options: &Options, round: usize, build: &Build, ahead: Ahead, sample: &Sample) {
    let Some(path) = &options.raw else { return };
    let line = serde_json::json!({"round": round, "program": build.name, "ahead": format!("{ahead:?}"), "values": sample.0});
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.expect("the values are kept");
}

fn report(build: &Build, ahead: Ahead, samples: &[Sample], first: &[Sample]) {
    println!("\n{}, {ahead:?}", build.name);
    let names: Vec<&String> = samples
        .first()
        .map_or_else(Vec::new, |s| s.0.keys().collect());
    for name in names {
        let of = |sample: &Sample| sample.0.get(name).copied().unwrap_or(0);
        let mut values: Vec<u64> = samples.iter().map(of).collect();
        values.sort_unstable();
        let n = values.len();
        let counted = name.starts_with("count ");
        let show = |value: u64| match counted {
            true => format!("{value}"),
            false => format!("{:.1} ms", value as f64 / 1e6),
        };
        let rank = |per_mille: usize| values[(n * per_mille).div_ceil(1000).clamp(1, n) - 1];
        let mut line = format!("  {name:34} P50 {:>10}", show(rank(500)));
        if n >= 200 {
            line += &format!("  P95 {:>10}", show(rank(950)));
        }
        if n >= 1000 {
            line += &format!("  P99 {:>10}", show(rank(990)));
        }
        line += &format!(
            "  least {:>10}  most {:>10}",
            show(values[0]),
            show(values[n - 1])
        );
        let mut ratios: Vec<f64> = samples
            .iter()
            .zip(first)
            .filter_map(|(sample, first)| {
                let base = *first.0.get(name)?;
                (base > 0).then(|| of(sample) as f64 / base as f64)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        if !ratios.is_empty() && !std::ptr::eq(samples, first) {
            let (low, high) = interval(ratios.len());
            let middle = ratios[ratios.len() / 2];
            line += &format!(
                "  ratio {middle:.2} [{:.2}, {:.2}]",
                ratios[low], ratios[high]
            );
        }
        println!("{line}");
    }
}

/// Ranks, from zero, of the values between which the median of a population lies with 95 % confidence: the binomial tails
/// outside hold 2.5 % each.
fn interval(n: usize) -> (usize, usize) {
    let mut term = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut below = term;
    let mut low = 0;
    while below <= 0.025 && low + 1 < n {
        low += 1;
        term *= (n - low + 1) as f64 / low as f64;
        below += term;
    }
    let low = low.saturating_sub(1).min((n - 1) / 2);
    (low, n - 1 - low)
}
