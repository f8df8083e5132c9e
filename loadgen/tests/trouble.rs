//! What goes wrong around a run: it is said clearly, what was measured is kept, and no sandbox is left.

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::{command, report, run, samples, stub, told};
use loadgen::stub::{Delay, Script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn slow() -> Script {
    Script {
        create: Delay::Fixed(Duration::from_millis(20)),
        ..Script::default()
    }
}

#[test]
fn a_wrong_address_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let (code, text) = told(&run(&url, folder.path(), "cold-start -n 3"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains(&format!("no server at {url}")), "{text}");
    let (code, text) = told(&run(
        "http://no-such-host.invalid",
        folder.path(),
        "cold-start -n 3",
    ));
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("no server at http://no-such-host.invalid"),
        "{text}"
    );
    let (code, text) = told(&run("localhost:3000", folder.path(), "cold-start -n 3"));
    assert_eq!(code, 2, "{text}");
}

#[test]
fn a_wrong_key_is_a_sentence_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        key: Some("another".to_owned()),
        ..Script::default()
    });
    let (code, text) = told(&run(&server.url(), folder.path(), "cold-start -n 3"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("refuses the API key: HTTP 401"), "{text}");
    assert!(!text.contains("e2b_good"), "{text}");
    assert_eq!(server.created().0, 0);
}

#[test]
fn a_wrong_template_and_a_sandbox_that_is_not_reached_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script::default());
    let (code, text) = told(&run(
        &server.url(),
        folder.path(),
        "cold-start -n 3 --template none",
    ));
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("makes no sandbox of template `none`: HTTP 404"),
        "{text}"
    );
    let other = stub(Script::default());
    let words = format!("cold-start -n 3 --sandbox-url {}", other.url());
    let (code, text) = told(&run(&server.url(), folder.path(), &words));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("no command reaches it through"), "{text}");
    assert_eq!(server.alive(), 0);
}

#[test]
fn a_server_that_dies_is_told_and_what_was_measured_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        dies_after: Some(Duration::from_secs(2)),
        ..slow()
    });
    let began = Instant::now();
    let words = "cold-start --arrivals constant:20 --duration 60s --warm-up 0";
    let output = run(&server.url(), folder.path(), words);
    let (code, text) = told(&output);
    assert_eq!(code, 3, "{text}");
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "it goes on against nobody"
    );
    let report = report(folder.path());
    assert!(report.interrupted);
    let notes = report.body.notes.join("\n");
    assert!(
        notes.contains("the server is gone: no connection to"),
        "{notes}"
    );
    assert!(notes.contains("loadgen clean --run"), "{notes}");
    let series = &report.body.series[1];
    assert!(
        series.counts.ok > 5 && series.counts.failed() >= 10,
        "{:?}",
        series.counts
    );
    let kept = samples(folder.path(), "first_exec");
    assert_eq!(kept.len() as u64, series.counts.planned);
}

#[test]
fn ctrl_c_keeps_what_there_is_and_leaves_no_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(slow());
    let words = "cold-start --arrivals closed:8 -n 100000";
    let mut child = command(&server.url(), folder.path(), words)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.created().0 < 100 {
        assert!(Instant::now() < deadline, "it makes no sandboxes");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(server.alive(), 0, "sandboxes are left");
    let report = report(folder.path());
    assert!(report.interrupted);
    assert!(report.body.series[1].counts.ok >= 50);
    assert!(folder.path().join("first_exec.hlog").exists());
}

#[test]
fn turns_that_hang_are_cut_after_the_grace_and_their_sandboxes_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = stub(Script {
        silent: 0.5,
        seed: common::seed_that_begins_above(0.5),
        ..Script::default()
    });
    let words = "cold-start --arrivals constant:20 --warm-up 0 --duration 60s --grace 500ms";
    let mut hanging = command(&server.url(), folder.path(), words);
    let mut child = hanging.arg("--call-timeout=20s").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.created().0 < 20 {
        assert!(Instant::now() < deadline, "it makes no sandboxes");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.alive() > 0);
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let began = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "the grace is half a second"
    );
    let report = report(folder.path());
    let notes = report.body.notes.join("\n");
    assert!(notes.contains("had no end when the run was cut"), "{notes}");
    let run = &report.run;
    assert!(
        !notes.contains(&format!("loadgen clean --run {run}")),
        "{notes}"
    );
}

#[test]
fn a_full_disk_is_told_and_the_report_is_still_written() {
    let folder = tempfile::tempdir().unwrap();
    // Every write to it says that no space is left.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("samples.jsonl")).unwrap();
    let server = stub(slow());
    let words = "cold-start --arrivals constant:50 --duration 60s --warm-up 0";
    let began = Instant::now();
    let (code, text) = told(&run(&server.url(), folder.path(), words));
    assert_eq!(code, 4, "{text}");
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "it goes on without writing"
    );
    let report = report(folder.path());
    let notes = report.body.notes.join("\n");
    assert!(
        notes.contains("results cannot be written") && notes.contains("No space left"),
        "{notes}"
    );
    assert!(report.body.series[1].counts.ok > 0);
    assert_eq!(server.alive(), 0);
}

#[test]
fn a_folder_with_a_report_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.json"), "{}").unwrap();
    let server = stub(Script::default());
    let (code, text) = told(&run(&server.url(), folder.path(), "cold-start -n 1"));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("holds a report already"), "{text}");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("report.json")).unwrap(),
        "{}"
    );
}

#[test]
fn what_a_run_left_behind_is_cleaned_by_its_name() {
    let server = stub(Script::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limits = loadgen::e2b::target::Limits {
        life: Duration::from_secs(5),
        call: Duration::from_secs(5),
        sandbox_seconds: 60,
    };
    let target = loadgen::e2b::Target::new(&server.url(), "k", None, None, "base", limits).unwrap();
    let client = loadgen::e2b::Client::new(target);
    runtime.block_on(async {
        // More than a page, and one of somebody else's.
        for _ in 0..150 {
            client.create("lost", None).await.unwrap();
        }
        client.create("other", None).await.unwrap();
    });
    let mut clean = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = clean
        .args([
            "clean",
            "--run",
            "lost",
            "--api-key",
            "k",
            "--url",
            &server.url(),
        ])
        .output()
        .unwrap();
    assert_eq!(told(&output).0, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("150 sandboxes killed"));
    assert_eq!(server.alive(), 1);
}

/// A minute's load with results on a file system of its own of so many KiB, of which `used` are taken; what is left there afterwards is
/// copied to `kept`. The file system is mounted in a user namespace, so that the test needs no root.
fn on_a_small_disk(url: &str, kib: u32, used: u32, kept: &std::path::Path) -> std::process::Output {
    let words = "cold-start --arrivals constant:100 --duration 60s --warm-up 0";
    let disk = tempfile::tempdir().unwrap();
    let out = disk.path().join("results");
    let program = command(url, &out, words);
    let script = format!(
        "mount -t tmpfs -o size={kib}k none \"$1\" && head -c {used}k /dev/zero > \"$1/used\" || exit 99\n\
         disk=$1 kept=$2; shift 2; \"$@\"; code=$?\n\
         [ ! -e \"$disk/results\" ] || cp -r \"$disk/results/.\" \"$kept\"; exit $code"
    );
    let mut unshare = std::process::Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    unshare.arg(disk.path()).arg(kept);
    unshare.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare.output().unwrap()
}

#[test]
fn a_disk_that_fills_up_takes_the_report_and_whole_lines() {
    let kept = tempfile::tempdir().unwrap();
    let server = stub(slow());
    let output = on_a_small_disk(&server.url(), 512, 0, kept.path());
    let (code, text) = told(&output);
    assert_eq!(code, 4, "{text}");
    let report = report(kept.path());
    let notes = report.body.notes.join("\n");
    assert!(
        report.interrupted && notes.contains("No space left"),
        "{notes}"
    );
    let lines = std::fs::read_to_string(kept.path().join("samples.jsonl")).unwrap();
    assert!(lines.ends_with('\n'), "a line is cut off");
    assert!(
        samples(kept.path(), "first_exec").len() > 100,
        "{}",
        lines.len()
    );
    assert!(kept.path().join("first_exec.hgrm").exists());
    assert_eq!(server.alive(), 0);
}

#[test]
fn a_disk_without_room_for_a_report_is_told_before_the_run() {
    let kept = tempfile::tempdir().unwrap();
    let server = stub(slow());
    let output = on_a_small_disk(&server.url(), 128, 100, kept.path());
    let (code, text) = told(&output);
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("the disk is full:") && text.contains("KiB left"),
        "{text}"
    );
    // The preflight's own.
    assert_eq!((server.created().0, server.alive()), (1, 0));
}
