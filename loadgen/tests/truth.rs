//! Does the program find what is there? A stub whose times are known is measured.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use common::{report, run, samples, stub, told};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadgen::selftest;
use loadgen::stub::{Delay, Script};
use reports::model::load::{Series, Verdict};

/// What the client and the way may add to a delay on a busy machine: far less than the steps of the script lie apart.
const SLACK: u64 = 25_000_000;

fn find<'a>(report: &'a reports::model::Report<reports::model::Load>, name: &str) -> &'a Series {
    report
        .body
        .series
        .iter()
        .find(|series| series.name == name)
        .unwrap()
}

#[test]
fn percentiles_of_a_known_distribution_are_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let ms = Duration::from_millis;
    let server = stub(Script {
        create: Delay::Steps(vec![(ms(20), 0.9), (ms(120), 0.98), (ms(400), 1.0)]),
        seed: 2,
        ..Script::default()
    });
    let output = run(
        &server.url(),
        folder.path(),
        "cold-start --clock accepted --arrivals poisson:150 -n 1000 --no-verify --warm-up 0",
    );
    assert_eq!(told(&output).0, 0, "{}", told(&output).1);
    let report = report(folder.path());
    let series = find(&report, "accepted");
    assert_eq!((series.counts.ok, series.counts.planned), (1000, 1000));
    for (estimate, want) in series.quantiles.iter().zip([20, 120, 400]) {
        assert!(estimate.supported);
        let want = want * 1_000_000;
        let off = estimate.value.checked_sub(want);
        assert!(
            off.is_some_and(|off| off < SLACK),
            "{} for {want}",
            estimate.value
        );
    }
    // The histogram against the samples themselves, within its three digits.
    let mut values: Vec<u64> = samples(folder.path(), "accepted")
        .iter()
        .map(|sample| sample.value.unwrap())
        .collect();
    values.sort_unstable();
    for (estimate, rank) in series.quantiles.iter().zip([499, 949, 989]) {
        let truth = values[rank];
        assert!(
            estimate.value.abs_diff(truth) <= truth / 1000,
            "{} for {truth}",
            estimate.value
        );
    }
    // Never faster than the server was, request by request in the mean and at every quantile; the preflight's create apart.
    let mut held: Vec<u64> = server
        .served()
        .iter()
        .skip(1)
        .map(|served| u64::try_from(served.held.as_nanos()).unwrap())
        .collect();
    held.sort_unstable();
    assert_eq!(held.len(), 1000);
    for rank in [499, 949, 989] {
        assert!(values[rank] >= held[rank], "rank {rank}");
        assert!(
            values[rank] - held[rank] < SLACK,
            "rank {rank}: {} for {}",
            values[rank],
            held[rank]
        );
    }
    // The server's own spans explain what the client saw, but for the way.
    let rest = series.unexplained_ns().unwrap();
    assert!((0..i64::try_from(SLACK).unwrap()).contains(&rest), "{rest}");
}

#[test]
fn the_files_of_a_run_hold_the_same_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        create: Delay::Uniform(Duration::from_millis(5), Duration::from_millis(50)),
        ..Script::default()
    });
    let output = run(
        &server.url(),
        folder.path(),
        "cold-start --arrivals closed:4 -n 300",
    );
    assert_eq!(told(&output).0, 0);
    let report = report(folder.path());
    let series = find(&report, "first_exec");
    let read = |name: &Option<String>| {
        std::fs::read_to_string(folder.path().join(name.as_ref().unwrap())).unwrap()
    };
    let mut all: Histogram<u64> = Histogram::new(3).unwrap();
    for entry in IntervalLogIterator::new(read(&series.hlog).as_bytes()) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            let part: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            all.add(part).unwrap();
        }
    }
    assert_eq!(all.len(), 300);
    assert!(all.equivalent(all.value_at_quantile(0.5), series.quantiles[0].value));
    assert!(read(&series.hgrm).contains("Total count    =          300"));
    assert_eq!(report.command[0], "loadgen");
    assert!(report.body.client.as_ref().unwrap().cpu_user_ns > 0);
    assert!(series.arrival.closed_loop);
    assert_eq!(server.alive(), 0);
}

#[test]
fn the_open_loop_sees_a_stall_and_a_closed_loop_misses_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    // As 2 s in 60, ten times as fast: 200 ms in 6 s.
    let found = runtime
        .block_on(selftest::omission(listen, Duration::from_secs(12)))
        .unwrap();
    assert!(found.is_good(), "{found:?}");
}

#[test]
fn failures_stand_beside_latency() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        refused: 0.2,
        seed: 11,
        ..Script::default()
    });
    let output = run(
        &server.url(),
        folder.path(),
        "cold-start --arrivals constant:200 -n 300 --warm-up 0",
    );
    assert_eq!(told(&output).0, 1, "{}", told(&output).1);
    let report = report(folder.path());
    let series = find(&report, "first_exec");
    let refused = series.counts.failures["create http 503"];
    assert!((30..=90).contains(&refused), "{refused}");
    assert_eq!(series.counts.ok + refused, 300);
    assert_eq!(series.spectrum.last().unwrap().count, series.counts.ok);
    assert!(
        samples(folder.path(), "first_exec")
            .iter()
            .filter(|s| s.failure.is_some())
            .all(|s| s.value.is_none())
    );
}

#[test]
fn a_sandbox_that_does_not_answer_is_a_failure_on_every_clock() {
    for clock in ["accepted", "ready", "first_exec"] {
        let folder = tempfile::tempdir().unwrap();
        let server = stub(Script {
            silent: 0.3,
            seed: common::seed_that_begins_above(0.3),
            ..Script::default()
        });
        let words = format!(
            "cold-start --clock {clock} --arrivals closed:20 -n 60 --warm-up 0 --call-timeout 300ms"
        );
        let output = run(&server.url(), folder.path(), &words);
        assert_eq!(told(&output).0, 1, "{clock}: {}", told(&output).1);
        let report = report(folder.path());
        for series in report
            .body
            .series
            .iter()
            .filter(|series| series.metric == "cold_start")
        {
            let failed = series.counts.failed();
            assert!((6..=36).contains(&failed), "{clock}: {:?}", series.counts);
            assert_eq!(series.counts.ok + failed, 60);
        }
        assert_eq!(server.alive(), 0, "{clock}");
    }
}

#[test]
fn arrivals_that_find_no_room_are_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        create: Delay::Fixed(Duration::from_millis(200)),
        ..Script::default()
    });
    let words = "cold-start --arrivals constant:100 -n 100 --max-in-flight 5 --warm-up 0";
    let output = run(&server.url(), folder.path(), words);
    assert_eq!(told(&output).0, 1);
    let report = report(folder.path());
    let counts = &find(&report, "first_exec").counts;
    assert!(counts.dropped > 50, "{counts:?}");
    assert_eq!(counts.dropped + counts.ok, 100);
    assert!(server.created().1 <= 5);
}

#[test]
fn a_build_that_is_a_third_slower_is_found_and_the_same_one_is_not() {
    let build = |ms: u64, seed| {
        stub(Script {
            create: Delay::LogNormal(Duration::from_millis(ms), 0.2),
            seed,
            ..Script::default()
        })
    };
    let (a, b, again) = (build(30, 1), build(40, 2), build(30, 3));
    let compare = |other: &loadgen::stub::Stub| {
        let folder = tempfile::tempdir().unwrap();
        let words = format!(
            "compare {} {} --rounds 16 --per-round 6 --warm-up 1 --floor 0.1",
            a.url(),
            other.url()
        );
        let output = run("http://127.0.0.1:1", folder.path(), &words);
        (
            told(&output),
            report(folder.path()).body.comparisons.remove(0),
        )
    };
    let ((code, text), slower) = compare(&b);
    assert_eq!(
        (code, slower.finding.verdict),
        (1, Verdict::Worse),
        "{text} {slower:?}"
    );
    assert!(slower.ratios[0].value > 1.1 && slower.p_value < 0.01 && slower.resamples >= 9_999);
    let ((code, text), same) = compare(&again);
    assert_eq!(
        (code, same.finding.verdict),
        (0, Verdict::Same),
        "{text} {same:?}"
    );
}

#[test]
fn a_sweep_finds_the_knee_of_a_server_with_four_slots() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        create: Delay::Fixed(Duration::from_millis(50)),
        capacity: Some(4),
        ..Script::default()
    });
    let words =
        "sweep --concurrency 1,4,16 -n 48 --pause 10ms --warm-up 1 --clock accepted --no-verify";
    let output = run(&server.url(), folder.path(), words);
    assert_eq!(told(&output).0, 0, "{}", told(&output).1);
    let notes = report(folder.path()).body.notes.join("\n");
    assert!(notes.contains("is at closed:4"), "{notes}");
}

#[test]
fn lives_commands_and_files_are_measured_and_checked() {
    let server = stub(Script::default());
    for (words, names) in [
        (
            "lifecycle -n 5 --warm-up 0",
            "checkpoint rollback snapshot restore fork pause resume resume_exec",
        ),
        (
            "exec -n 20 --arrivals closed:2 --sandboxes 2 --output-bytes 100000",
            "exec exec_output",
        ),
        (
            "files -n 5 --arrivals closed:1 --bytes 300000",
            "file_write file_read file_write_speed file_read_speed",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(&server.url(), folder.path(), words);
        assert_eq!(told(&output).0, 0, "{words}: {}", told(&output).1);
        let report = report(folder.path());
        let found: Vec<_> = report
            .body
            .series
            .iter()
            .map(|series| series.name.as_str())
            .collect();
        assert_eq!(found.join(" "), names);
        assert!(
            report
                .body
                .series
                .iter()
                .all(|series| series.counts.ok >= 5 && series.counts.failed() == 0)
        );
        assert_eq!((server.alive(), server.snapshots()), (0, 0), "{words}");
    }
}

#[test]
fn a_recorded_run_is_replayed() {
    let server = stub(Script::default());
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    assert_eq!(
        told(&run(
            &server.url(),
            &first,
            "cold-start --arrivals poisson:50 -n 60 --warm-up 0"
        ))
        .0,
        0
    );
    let trace = folder.path().join("trace");
    let planned = |out| {
        samples(out, "first_exec")
            .iter()
            .map(|sample| sample.planned_ns)
            .collect::<Vec<_>>()
    };
    let mut before = planned(&first);
    before.sort_unstable();
    let lines: Vec<String> = before
        .iter()
        .map(|ns| format!("{{\"planned_ns\":{ns}}}"))
        .collect();
    std::fs::write(&trace, lines.join("\n")).unwrap();
    let words = format!("replay {} --speed 2 --warm-up 0", trace.display());
    assert_eq!(told(&run(&server.url(), &second, &words)).0, 0);
    let mut after = planned(&second);
    after.sort_unstable();
    assert_eq!(after.len(), 60);
    for (before_ns, after_ns) in before.iter().zip(&after) {
        let (want, got) = ((before_ns - before[0]) / 2, after_ns - after[0]);
        assert!(want.abs_diff(got) < 2_000, "{want} {got}");
    }
}

#[test]
fn a_density_run_ends_where_it_is_refused_and_its_ledger_is_even() {
    let server = stub(Script {
        most: Some(7),
        ..Script::default()
    });
    let folder = tempfile::tempdir().unwrap();
    // The stub has no processes of its own: this test's process stands in for the VMM.
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let mut command = common::command(
        &server.url(),
        folder.path(),
        "density --on-host --steps 1,5,10 --rest 10ms --settle 2s --keep-free-mib 1 --workload false",
    );
    let output = command
        .args(["--process", comm.trim(), "--guest-mib", "1"])
        .output()
        .unwrap();
    let report = report(folder.path());
    let density = report.body.density.as_ref().unwrap();
    let live: Vec<u64> = density.rows.iter().map(|row| row.live).collect();
    assert_eq!(
        density.stop.reason,
        reports::model::load::StopReason::BoundMissed,
        "{:?} {}",
        density,
        told(&output).1
    );
    assert_eq!(live, [1]);
    assert!(density.rows[0].pss_bytes.unwrap() > 100 << 10);
    assert_eq!(server.alive(), 0);
    let again = tempfile::tempdir().unwrap();
    let mut command = common::command(
        &server.url(),
        again.path(),
        "density --on-host --steps 1,5,10 --rest 10ms --settle 2s --keep-free-mib 1",
    );
    let output = command
        .args(["--process", "no-such-process", "--workload", "true"])
        .output()
        .unwrap();
    let report = common::report(again.path());
    let density = report.body.density.as_ref().unwrap();
    assert_eq!(
        density.stop.reason,
        reports::model::load::StopReason::Refused,
        "{:?} {}",
        density,
        told(&output).1
    );
    assert_eq!(
        density.rows.iter().map(|row| row.live).collect::<Vec<_>>(),
        [1, 1, 5, 5, 7, 7]
    );
    assert!(
        report
            .body
            .leaks
            .as_ref()
            .unwrap()
            .iter()
            .any(|leak| leak.what == "processes" && leak.after == 0)
    );
    assert_eq!(server.alive(), 0);
}
