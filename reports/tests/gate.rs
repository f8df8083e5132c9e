//! The shipped program as a gate: folders in, exit codes out.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "made-up readings of milliseconds"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use reports::folder::{self, SampleWriter};
use reports::model::Sample;
use reports::stats::random::Random;

const ROUNDS: u32 = 20;

/// A run with `sides` of one series, each slower than 50 ms by its factor; `failing` of 20 requests fail in each round.
fn write(dir: &Path, run: &str, seed: u64, sides: &[(&str, f64)], failing: usize) {
    let mut report = common::load();
    report.run = run.into();
    report.body.series.truncate(1);
    let model = report.body.series.remove(0);
    let mut random = Random::new(seed);
    let mut samples = SampleWriter::create(dir).unwrap();
    for (side, factor) in sides {
        let mut series = model.clone();
        series.name = format!("first_exec {side}");
        if !side.is_empty() {
            series.dimensions.insert("side".into(), (*side).into());
        }
        for round in 0..ROUNDS {
            for index in 0..20usize {
                let noise = random.below(8_000_000) as u64 + (u64::from(round) % 4) * 1_000_000;
                let ns = ((50_000_000 + noise) as f64 * factor) as u64;
                let failed = index < failing;
                let sample = Sample {
                    series: series.name.clone(),
                    round,
                    planned_ns: u64::from(round) * 1_000_000_000,
                    sent_ns: Some(u64::from(round) * 1_000_000_000),
                    value: (!failed).then_some(ns),
                    failure: failed.then(|| "http 503".into()),
                    sandbox: None,
                    stages_ns: Default::default(),
                };
                samples.add(&sample).unwrap();
            }
        }
        report.body.series.push(series);
    }
    samples.finish().unwrap();
    folder::write(dir, &report).unwrap();
}

fn gate(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reports"))
        .arg("gate")
        .args([dir.join("base"), dir.join("new")])
        .args(more)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.as_slice(), output.stderr.as_slice()].concat()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn a_planted_slow_down_fails_the_gate_and_the_same_build_does_not() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("base"), "one", 1, &[("", 1.0)], 0);
    write(&dir.path().join("new"), "one", 2, &[("", 1.2)], 0);
    let worse = gate(dir.path(), &[]);
    assert_eq!(code(&worse), 1, "{}", said(&worse));
    assert!(said(&worse).contains("WORSE"), "{}", said(&worse));
    write(&dir.path().join("new"), "one", 3, &[("", 1.0)], 0);
    let same = gate(dir.path(), &[]);
    assert_eq!(code(&same), 0, "{}", said(&same));
    // Real, but within the floor.
    write(&dir.path().join("new"), "one", 4, &[("", 1.03)], 0);
    let small = gate(dir.path(), &[]);
    assert_eq!(code(&small), 0, "{}", said(&small));
    assert!(said(&small).contains("too small"), "{}", said(&small));
}

#[test]
fn more_failures_fail_the_gate_however_fast_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("base"), "one", 1, &[("", 1.0)], 0);
    write(&dir.path().join("new"), "one", 2, &[("", 0.8)], 1);
    let output = gate(dir.path(), &["--json"]);
    assert_eq!(code(&output), 1, "{}", said(&output));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line = |what: &str| {
        lines
            .as_array()
            .unwrap()
            .iter()
            .find(|line| line["what"] == what)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&line("failures")["real"], &line("time")["matters"]),
        (&true.into(), &false.into())
    );
}

#[test]
fn two_runs_are_compared_by_their_reference_sides_only() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("base"), "monday", 1, &[("", 1.0)], 0);
    write(&dir.path().join("new"), "tuesday", 2, &[("", 1.0)], 0);
    let refused = gate(dir.path(), &[]);
    assert_eq!(code(&refused), 3, "{}", said(&refused));
    assert!(
        said(&refused).contains("reference side"),
        "{}",
        said(&refused)
    );
    assert_eq!(code(&gate(dir.path(), &["--across-runs"])), 0);
    // On Tuesday the machine is half as fast; only what is slower than its reference is worse.
    write(
        &dir.path().join("base"),
        "monday",
        1,
        &[("a", 1.0), ("b", 1.0)],
        0,
    );
    write(
        &dir.path().join("new"),
        "tuesday",
        2,
        &[("a", 2.0), ("b", 2.0)],
        0,
    );
    let mood = gate(dir.path(), &[]);
    assert_eq!(code(&mood), 0, "{}", said(&mood));
    write(
        &dir.path().join("new"),
        "tuesday",
        2,
        &[("a", 2.0), ("b", 2.4)],
        0,
    );
    let worse = gate(dir.path(), &[]);
    assert_eq!(code(&worse), 1, "{}", said(&worse));
}

#[test]
fn what_cannot_be_judged_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join("base"),
        "one",
        1,
        &[("", 1.0), ("b", 1.0)],
        0,
    );
    write(&dir.path().join("new"), "one", 2, &[("", 1.0)], 0);
    let missing = gate(dir.path(), &[]);
    assert_eq!(code(&missing), 3, "{}", said(&missing));
    assert!(
        said(&missing).contains("no such series"),
        "{}",
        said(&missing)
    );
    assert_eq!(code(&gate(dir.path(), &["--allow-undecided"])), 0);
    assert_eq!(code(&gate(dir.path(), &["--resamples", "99"])), 2);
    std::fs::remove_file(dir.path().join("new/report.json")).unwrap();
    assert_eq!(code(&gate(dir.path(), &[])), 2);
}
