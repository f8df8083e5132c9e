//! What an idle clone costs its host, and what wakes it.
//!
//! ```text
//!   template ─► N clones, each configured ─► settle ─┤ window ├─► processor time of each `microvm`, by thread; KVM's exits; switches
//!                                                               of the guest's threads
//! ```
//!
//! It needs what the tests with guests need (see `tests/guest.rs`) and says what is missing.

// What is measured is far below 2^52.
#![allow(clippy::cast_precision_loss)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Parser;
use vmm::control::{Booted, Op, Restored};
use vmm::snapshot::Kind;

use self::common::{Artifacts, Guest, run, write};

/// Measures what idle clones cost.
#[derive(Parser)]
struct Options {
    /// Clones.
    #[arg(long, default_value_t = 5)]
    clones: usize,
    /// Seconds that they are left alone first.
    #[arg(long, default_value_t = 30)]
    settle: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    window: u64,
    /// Guest memory in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Image of the guest.
    #[arg(long, default_value = "base")]
    image: String,
    /// A command for each clone before it is left alone.
    #[arg(long)]
    first: Option<String>,
    /// Also say which of the guest's threads ran, which costs a look before and after.
    #[arg(long)]
    inside: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Prints name and number of switches of every thread.
const THREADS: &str = "for t in /proc/[0-9]*/task/*; do n=$(cat $t/comm); s=$(grep -h ^voluntary $t/status | tr -dc 0-9); \
                       echo \"${t##*/}:$n $s\"; done 2>/dev/null";

fn main() {
    let options = Options::parse();
    let Some(artifacts) = Artifacts::with_image(&options.image) else {
        return;
    };
    let interpreter = options.image != "base";
    let folder = tempfile::tempdir().expect("a folder");
    let template = folder.path().join("template");
    let guest = Guest::start();
    let mut config = guest.config(&artifacts, "");
    (config.vcpus, config.memory_mib) = (1, options.memory);
    let mut control = guest.client();
    let boot = Op::Boot(Box::new(config));
    control.call::<Booted>(boot).expect("it boots");
    let mut agent = guest.agent();
    agent.configure(interpreter);
    agent.order("warm_up", r#"{"depth":"template"}"#);
    drop(agent);
    control.order(Op::Pause).expect("it stands still");
    write(&mut control, &template, Kind::Full, false);
    drop(guest);

    let clones: Vec<Guest> = (0..options.clones).map(|_| Guest::start()).collect();
    for clone in &clones {
        let restore = Op::Restore(Box::new(clone.restore(&template)));
        let restored = clone.client().call::<Restored>(restore);
        restored.expect("it is restored");
        clone.agent().configure(interpreter);
        if let Some(command) = &options.first {
            print!("{}", run(clone, command));
        }
    }
    let inside = |clone: &Guest| match options.inside {
        true => threads(&run(clone, THREADS)),
        false => BTreeMap::new(),
    };
    std::thread::sleep(Duration::from_secs(options.settle));
    let guest_before = inside(&clones[0]);
    if options.inside {
        std::thread::sleep(Duration::from_secs(2));
    }
    let before: Vec<_> = clones.iter().map(usage).collect();
    std::thread::sleep(Duration::from_secs(options.window));
    let after: Vec<_> = clones.iter().map(usage).collect();
    let guest_after = inside(&clones[0]);

    let seconds = options.window as f64;
    let mut of_a_core = Vec::new();
    for (clone, (before, after)) in before.iter().zip(&after).enumerate() {
        let grown = |name: &String| {
            let old = before.get(name).copied().unwrap_or(0);
            after[name].saturating_sub(old)
        };
        let ran: u64 = after
            .keys()
            .filter(|name| name.starts_with("ns "))
            .map(grown)
            .sum();
        of_a_core.push(ran as f64 / 1e7 / seconds);
        let parts: Vec<String> = after
            .keys()
            .filter(|name| grown(name) > 0)
            .map(|name| match name.starts_with("ns ") {
                true => format!("{} {:.1} ms", &name[3..], grown(name) as f64 / 1e6),
                false => format!("{name} {:.1}/s", grown(name) as f64 / seconds),
            })
            .collect();
        println!(
            "clone {clone}: {:.3} % of a core: {}",
            of_a_core[clone],
            parts.join(", ")
        );
    }
    let mean = of_a_core.iter().sum::<f64>() / of_a_core.len() as f64;
    println!(
        "idle: {} clones of {}, {} s after {} s: mean {mean:.3} % of a core each",
        options.clones, options.image, options.window, options.settle
    );
    for (name, count) in &guest_after {
        let more = count.saturating_sub(guest_before.get(name).copied().unwrap_or(0));
        if more > 0 {
            println!("  in clone 0: {name} ran {more} times");
        }
    }
}

/// Processor time of every thread, in nanoseconds, and what KVM counts.
fn usage(clone: &Guest) -> BTreeMap<String, u64> {
    let pid = clone.child.id();
    let mut usage = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .flatten()
    {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        // Linux, Documentation/scheduler/sched-stats.rst: nanoseconds on a processor come first.
        let ran = read("schedstat")
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok());
        usage.insert(format!("ns {}", read("comm").trim()), ran.unwrap_or(0));
    }
    let own = format!("{pid}-");
    let folders = std::fs::read_dir("/sys/kernel/debug/kvm")
        .into_iter()
        .flatten()
        .flatten();
    for folder in folders.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)) {
        for counter in std::fs::read_dir(folder.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = counter.file_name().to_string_lossy().into_owned();
            let value = std::fs::read_to_string(counter.path()).unwrap_or_default();
            if let Ok(value) = value.trim().parse() {
                usage.insert(name, value);
            }
        }
    }
    usage
}

/// Reads what [`THREADS`] prints.
fn threads(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}
