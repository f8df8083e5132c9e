//! Reports made up for tests: a load report that has everything, and strings that a hostile target would send.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "made-up readings of milliseconds"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reports::model::conformance::{
    Counts as StatusCounts, Covered, Exchange, Level, Outcome, Profile, Standing, Status,
};
use reports::model::load::{
    Activity, Arrival, Client, Clock, Comparison, Counts, Density, DensityRow, Finding, Interval,
    Leak, Method, Series, SpectrumPoint, Stage, Stop, StopReason, Unit, Verdict,
};
use reports::model::{
    Body, Conformance, Environment, Load, Machine, Report, Tag, Target, Tool, Version,
    Virtualization,
};
use reports::stats::quantile::{Quantile, estimate};
use reports::stats::random::Random;
use reports::stats::ratio::compare;

/// Strings that must never be taken for anything but text.
pub const HOSTILE: [&str; 10] = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</pre></details><h1>forged</h1>",
    "]]>--><!--",
    "javascript:alert(1)",
    "\u{1b}[31mred\0\u{7}\r\n",
    "\u{202e}txt.exe\u{2066}\u{feff}",
    "&lt;already&gt; &amp; `|` **bold** [x](http://evil.example)",
    "=HYPERLINK(\"http://evil.example\")",
];

pub fn tool() -> Tool {
    Tool {
        name: "loadgen".into(),
        version: "0.1.0".into(),
        git_revision: Some("0123456789ab".into()),
    }
}

pub fn report<B: Body>(body: B) -> Report<B> {
    Report {
        schema: Version,
        kind: Tag::default(),
        tool: tool(),
        run: "r1".into(),
        command: ["loadgen", "sweep", "--url", "http://127.0.0.1:3000"]
            .map(String::from)
            .into(),
        seed: Some(7),
        started_at: "2026-11-25T10:00:00Z".parse().unwrap(),
        ended_at: "2026-11-25T10:02:00Z".parse().unwrap(),
        interrupted: false,
        target: Target {
            name: Some("a target".into()),
            url: "http://127.0.0.1:3000".into(),
            template: "base".into(),
            versions: BTreeMap::from([("envd".into(), "0.6.13".into())]),
        },
        environment: Environment {
            client: Some(machine(Virtualization::None)),
            host: Some(machine(Virtualization::Lab)),
        },
        body,
    }
}

fn machine(virtualization: Virtualization) -> Machine {
    Machine {
        cpu: "A processor".into(),
        cpus: 2,
        kernel: "Linux 6.12".into(),
        virtualization,
        memory_bytes: 8 << 30,
        file_system: Some("ext4".into()),
        cache_state: Some("warm".into()),
        versions: BTreeMap::from([("sandboxd".into(), "0.1.0".into())]),
    }
}

/// Log-normal-like readings around a median, with stalls.
pub fn readings(seed: u64, n: usize, median_ms: f64) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut unit = || (random.bits() >> 11) as f64 / (1u64 << 53) as f64;
    (0..n)
        .map(|_| {
            let normal = (0..6).map(|_| unit()).sum::<f64>() - 3.0;
            let stall = if unit() < 0.01 { 6.0 } else { 1.0 };
            (median_ms * 1e6 * (0.35 * normal).exp() * stall) as u64
        })
        .collect()
}

pub fn series(name: &str, n: usize, median_ms: f64, conditions: &[(&str, &str)]) -> Series {
    let mut sorted = readings(n as u64, n, median_ms);
    let timeline = sorted
        .chunks(20)
        .enumerate()
        .map(|(second, values)| {
            let mut values = values.to_vec();
            values.sort_unstable();
            let failed = u64::from(second % 7 == 3) * 4;
            Interval {
                at_ns: second as u64 * 1_000_000_000,
                length_ns: 1_000_000_000,
                planned: values.len() as u64 + failed + 1,
                ok: values.len() as u64,
                failed,
                dropped: 1,
                in_flight: 5,
                p50: Some(values[values.len() / 2]),
                p99: values.last().copied(),
            }
        })
        .collect::<Vec<_>>();
    sorted.sort_unstable();
    let mean = sorted.iter().sum::<u64>() / n as u64;
    let spectrum = (0..60)
        .map(|step| {
            let share = 1.0 - 10f64.powf(-f64::from(step) / 16.0);
            let index = ((share * n as f64) as usize).min(n - 1);
            SpectrumPoint {
                share,
                value: sorted[index],
                count: index as u64 + 1,
            }
        })
        .take_while(|point| (1.0 - point.share) * n as f64 >= 1.0)
        .collect();
    let stage = |name: &str, part: u64| Stage {
        name: name.into(),
        count: n as u64,
        mean_ns: mean * part / 100,
        p50_ns: mean * part / 110,
        p95_ns: mean * part / 50,
    };
    Series {
        name: name.into(),
        metric: "cold_start".into(),
        clock: Some(Clock::FirstExec),
        unit: Unit::Nanoseconds,
        dimensions: conditions
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        arrival: Arrival {
            model: "poisson".into(),
            closed_loop: false,
            offered_per_s: Some(20.0),
            achieved_per_s: 18.7,
        },
        counts: Counts {
            planned: n as u64 + 60,
            sent: n as u64 + 40,
            dropped: 20,
            ok: n as u64,
            failures: BTreeMap::from([("http 503".into(), 36), ("no answer to exec".into(), 4)]),
            warm_up: 10,
        },
        wall_ns: timeline.len() as u64 * 1_000_000_000,
        method: Method::Hdr3,
        quantiles: Quantile::SHOWN
            .iter()
            .filter_map(|q| estimate(&sorted, *q))
            .collect(),
        min: sorted.first().copied(),
        max: sorted.last().copied(),
        mean: Some(mean),
        spectrum,
        timeline,
        stages: Vec::from([
            stage("queue", 8),
            stage("pool take", 5),
            stage("restore", 42),
            stage("configure", 27),
        ]),
        hgrm: None,
        hlog: None,
    }
}

pub fn load() -> Report<Load> {
    let sweep: Vec<Series> = [(1, 31.0), (10, 140.0), (20, 300.0), (50, 820.0)]
        .iter()
        .map(|(c, median)| {
            let c = c.to_string();
            series(
                &format!("first_exec at {c}"),
                if c == "1" { 1_200 } else { 400 },
                *median,
                &[("concurrency", &c), ("state", "warm")],
            )
        })
        .collect();
    let rounds: Vec<_> = (0..20)
        .map(|round| (readings(round, 10, 60.0), readings(round + 99, 10, 50.0)))
        .collect();
    let found = compare(&rounds, 999, 1).unwrap();
    let comparison = |title: &str, verdict| Comparison {
        title: title.into(),
        a: "first_exec at 1".into(),
        b: "first_exec at 10".into(),
        rounds: found.rounds,
        ratios: found.ratios.clone(),
        p_value: found.p_value,
        resamples: 999,
        alpha: 0.01,
        floor: 0.05,
        finding: Finding {
            real: true,
            matters: verdict != Verdict::Same,
            verdict,
        },
    };
    let row = |live: u64, activity: Activity| DensityRow {
        live,
        silent: 0,
        vmm_pss_bytes: Some((700 << 10) + 4_000 / live),
        pss_bytes: Some((5 << 20) + (90 << 20) / live),
        private_dirty_bytes: Some(4 << 20),
        cgroup_bytes: Some((6 << 20) + (10 << 20) / live),
        available_delta_bytes: Some(7 << 20),
        guest_used_bytes: Some(31 << 20),
        answer_p50_ns: Some(30_000_000 + live * 900_000),
        answer_max_ns: Some(90_000_000 + live * 4_000_000),
        activity,
    };
    let mut rows: Vec<DensityRow> = [1, 10, 50, 100, 200, 300]
        .map(|live| row(live, Activity::Idle))
        .into();
    rows.extend(
        [1, 10, 50, 100].map(|live| row(live, Activity::After("python3 -c 'import json'".into()))),
    );
    report(Load {
        scenario: "sweep".into(),
        series: sweep,
        comparisons: Vec::from([
            comparison("first_exec, new against old", Verdict::Worse),
            comparison("first_exec, same build", Verdict::Same),
        ]),
        density: Some(Density {
            answer_bound_ns: 5_000_000_000,
            guest_memory_bytes: Some(256 << 20),
            rows,
            stop: Stop {
                reason: StopReason::Memory,
                detail: "MemAvailable fell below a twentieth".into(),
            },
        }),
        leaks: Some(Vec::from([
            Leak {
                what: "processes".into(),
                before: 2,
                peak: Some(302),
                after: 2,
            },
            Leak {
                what: "cgroups".into(),
                before: 1,
                peak: Some(301),
                after: 2,
            },
        ])),
        client: Some(Client {
            cpu_user_ns: 2_000_000_000,
            cpu_system_ns: 900_000_000,
            wall_ns: 120_000_000_000,
            rss_peak_bytes: 21 << 20,
            send_delay_p50_ns: Some(60_000),
            send_delay_p99_ns: Some(900_000),
            steal_ns: Some(0),
        }),
        notes: Vec::from(["The first ten creates are warm-up.".into()]),
    })
}

pub fn outcome(check: &str, status: Status, text: &str) -> Outcome {
    Outcome {
        check: check.into(),
        area: check.split('/').next().unwrap().into(),
        level: Level::Must,
        title: text.into(),
        status,
        standing: if status == Status::Pass {
            Standing::Fine
        } else {
            Standing::New
        },
        known_reason: None,
        expected: Some(text.into()),
        actual: Some(text.into()),
        ms: 1.5,
        requirements: Vec::from([Covered {
            id: "process/end/code".into(),
            level: Level::Must,
            text: text.into(),
            source: text.into(),
        }]),
        exchanges: Vec::from([Exchange {
            request: format!("POST /x {text}"),
            request_headers: Vec::from([format!("x: {text}")]),
            request_body: text.into(),
            status: Some(200),
            response_headers: Vec::from([format!("y: {text}")]),
            response_body: text.repeat(3_000),
            error: None,
            ms: 2.0,
        }]),
        rerun: format!("e2b-conformance run --check {text}"),
    }
}

/// A conformance report in which every text of the target is `text`.
pub fn conformance(text: &str) -> Report<Conformance> {
    let results = Vec::from([
        outcome("process/exit-code", Status::Fail, text),
        outcome("process/start", Status::Pass, text),
        outcome("files/read", Status::Untestable, text),
    ]);
    let counts = |pass, fail| StatusCounts {
        pass,
        fail,
        ..StatusCounts::default()
    };
    let profile = |area: &str, core| Profile {
        area: area.into(),
        name: format!("{area} {text}"),
        core,
        extended: counts(0, 0),
        requirements: 10,
        covered: 9,
    };
    let mut made = report(Conformance {
        unsupported: Vec::from([text.to_owned()]),
        requirements: 20,
        covered: 18,
        not_selected: 0,
        left_behind: Vec::from([text.to_owned()]),
        profiles: Vec::from([
            profile("process", counts(1, 1)),
            profile("files", counts(0, 0)),
        ]),
        results,
    });
    made.target.name = Some(text.into());
    made.target.versions = BTreeMap::from([(text.to_owned(), text.to_owned())]);
    made.command.push(text.to_owned());
    made
}

/// The folder of one committed sample.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("samples")
        .join(name)
}

/// Folders of all committed samples: each holds a report, or folders that do.
pub fn samples() -> Vec<PathBuf> {
    let folders = |root: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(root).unwrap();
        let all = all.map(|entry| entry.unwrap().path());
        all.filter(|path| path.is_dir()).collect()
    };
    let mut found = Vec::new();
    for folder in folders(&sample("")) {
        if folder.join("report.json").exists() {
            found.push(folder);
        } else {
            let within = folders(&folder);
            assert!(!within.is_empty(), "{} holds no report", folder.display());
            found.extend(within);
        }
    }
    found.sort();
    found
}

/// Its path below the folder of samples.
pub fn name_of_sample(folder: &Path) -> String {
    let below = folder.strip_prefix(sample("")).unwrap();
    below.display().to_string()
}
