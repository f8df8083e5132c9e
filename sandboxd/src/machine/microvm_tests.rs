//! What a process is told, and that a start that fails leaves nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Layout, MicrovmConfig, Microvms, Network, Plan, PoolLimits, StartError, configuration,
};
use crate::egress::Tap;
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::process::{ProcessIdentity, machines_below};
use crate::machine::{Hypervisor, Source};
use crate::templates::tests::template;

fn plan(tap: bool) -> Plan {
    Plan {
        id: SandboxId::parse("iabc").unwrap(),
        template: Arc::new(template("base", 512)),
        source: Source::Template,
        access_token: Some("token".to_owned()),
        env: [("A".to_owned(), "1".to_owned())].into(),
        tap: tap.then(|| Tap {
            slot: 0,
            name: "sbx0".to_owned(),
            mac: "06:00:a9:fe:64:02".to_owned(),
        }),
    }
}

fn machines(dir: &std::path::Path, program: &str) -> Microvms {
    machines_with(dir, program, PoolLimits { least: 0, most: 0 })
}

fn machines_with(dir: &std::path::Path, program: &str, limits: PoolLimits) -> Microvms {
    let config = MicrovmConfig {
        program: program.into(),
        kernel: "/k/vmlinux".into(),
        agent_disk: "/a/agent.erofs".into(),
        overlay_base: "/o/overlay.ext4".into(),
        start_timeout: Duration::from_secs(20),
        network: Network::standard(vec![[8, 8, 8, 8].into()]),
    };
    let layout = Layout::new(&dir.join("run"), &dir.join("state")).unwrap();
    Microvms::new(config, layout, None, limits)
}

/// Waits up to 2 s until the machines below `run` are `expected`.
async fn machines_become(run: &std::path::Path, expected: &[i32]) {
    for _ in 0..200 {
        if machines_below(run) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(machines_below(run), expected);
}

#[test]
fn the_machine_is_described_by_the_control_protocol() {
    let machines = machines("/d".as_ref(), "/bin/microvm");
    let plan = plan(true);
    let paths = machines.shared.layout.of(&plan.id);
    insta::assert_json_snapshot!(machines.machine_config(&plan, &paths));
}

#[test]
fn the_agent_gets_the_union_of_both_environments() {
    let configure = configuration(&plan(false), &Network::standard(Vec::new()));
    assert_eq!(configure.network, None);
    assert_eq!(
        configure.env.into_iter().collect::<Vec<_>>(),
        [
            ("A".to_owned(), "1".to_owned()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned())
        ]
    );
    assert!(configure.unix_time_ns > 1_700_000_000_000_000_000);
    assert_ne!(
        configure.entropy,
        configuration(&plan(false), &Network::standard(Vec::new())).entropy
    );
}

#[tokio::test]
async fn a_process_that_dies_is_reported_with_its_last_words_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A shell does not know `--id`, says so and exits.
    let machines = machines(dir.path(), "/bin/sh");
    let error = machines.start(plan(false)).await.err().unwrap();
    let StartError::Died { last_words } = error else {
        panic!("{error}")
    };
    assert!(last_words.contains("sh"), "{last_words}");
    machines.discard(plan(false).id).await;
    assert!(machines.shared.layout.present().is_empty());
}

#[tokio::test]
async fn a_start_that_is_dropped_kills_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("mute");
    std::fs::write(
        &script,
        "#!/bin/sh\nwhile :; do read line </dev/zero; done\n",
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&script, mode).unwrap();
    let machines = machines(dir.path(), script.to_str().unwrap());
    let run = dir.path().join("run");
    let start = machines.start(plan(false));
    let dropped = tokio::time::timeout(Duration::from_millis(300), start).await;
    assert!(dropped.is_err());
    machines_become(&run, &[]).await;
    let swept = machines.sweep(HashSet::new(), HashSet::new()).await;
    assert_eq!((swept.processes, swept.folders), (0, 1));
    assert!(machines.shared.layout.present().is_empty());
}

/// A process that looks like a machine that was started as `name`.
async fn lookalike(run: &std::path::Path, name: &str) -> std::process::Child {
    let control = run.join(name).join("control.sock");
    let child = std::process::Command::new("sh")
        .args(["-c", "read line", "--control"])
        .arg(&control)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A new process has no command line for a moment after its parent goes on: the kernel lets the parent go when the
    // old memory is given up (execve(2)), and sets the arguments later.
    let pid = i32::try_from(child.id()).unwrap();
    machines_become(&run.join(name), &[pid]).await;
    child
}

fn identity(child: &std::process::Child) -> ProcessIdentity {
    ProcessIdentity::of(i32::try_from(child.id()).unwrap()).unwrap()
}

#[tokio::test]
async fn processes_belong_to_whoever_started_or_adopted_them_whatever_their_command_line_says() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let machines = machines(dir.path(), "/bin/sh");
    let kept = SandboxId::parse("ikept").unwrap();
    // Started for the pool and taken by `ikept`; and one that has the sandbox's name and is not its.
    let mut taken = lookalike(&run, "pwaited").await;
    let mut stale = lookalike(&run, "ikept").await;
    let mut orphan = lookalike(&run, "iorphan").await;
    machines.known.add(&kept, identity(&taken), None);
    std::fs::create_dir_all(machines.shared.layout.of(&kept).run).unwrap();
    let left = SandboxId::parse("pleft").unwrap();
    std::fs::create_dir_all(machines.shared.layout.of(&left).state).unwrap();
    let swept = machines.sweep([kept.clone()].into(), HashSet::new()).await;
    assert_eq!((swept.processes, swept.folders), (2, 1));
    assert_eq!(machines.shared.layout.present(), [kept.clone()].into());
    for dead in [&mut stale, &mut orphan] {
        let _ = dead.wait();
    }
    assert!(taken.try_wait().unwrap().is_none(), "it was its sandbox's");
    machines.discard(kept).await;
    let swept = machines.sweep(HashSet::new(), HashSet::new()).await;
    assert_eq!((swept.processes, swept.folders), (1, 0));
    let _ = taken.wait();
}

#[tokio::test]
async fn a_process_of_the_pool_that_is_unfit_is_replaced_by_one_of_its_own() {
    // One that was made for the pool becomes ready and dies when it is wanted; one of a sandbox's own says so.
    const UNFIT: &str = r#"#!/bin/sh
case $2 in i*) echo "a process of its own" >&2; exit 1 ;; esac
while read -r line; do
    case $line in *restore*) exit 1 ;; esac
    id=${line#*'"id":'}
    echo "{\"id\":${id%%,*},\"ok\":{\"stages\":[]}}" >&0
done
"#;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("unfit");
    std::fs::write(&script, UNFIT).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&script, mode).unwrap();
    let limits = PoolLimits { least: 1, most: 1 };
    let machines = machines_with(dir.path(), script.to_str().unwrap(), limits);
    let plan = plan(false);
    let snapshot = dir.path().join("snapshot");
    machines.templates.add(&plan.template, snapshot.clone());
    machines
        .pool
        .keep_ready(machines.kind(&plan, Some(snapshot)));
    for _ in 0..1_000 {
        if !machines.pool.identities().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = machines.pool.names();
    assert_eq!(before.len(), 1);
    let error = machines.start(plan.clone()).await.err().unwrap();
    let StartError::Died { last_words } = error else {
        panic!("{error}")
    };
    assert!(last_words.contains("of its own"), "{last_words}");
    machines.close().await;
    machines.discard(plan.id).await;
    assert!(machines.shared.layout.present().is_empty());
    assert_eq!(
        machines_below(&dir.path().join("run")),
        Vec::<i32>::default()
    );
}

#[tokio::test]
async fn what_a_dead_process_left_of_a_snapshot_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let machines = machines(dir.path(), "/bin/sh");
    let snapshots = dir.path().join("state/snapshots");
    for name in ["sone", "sone.tmp-7", "sonetwo", "stwo.tmp-7"] {
        std::fs::create_dir_all(snapshots.join(name)).unwrap();
    }
    machines
        .discard_snapshot(SnapshotId::parse("sone").unwrap())
        .await;
    let left = std::fs::read_dir(&snapshots).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["sonetwo", "stwo.tmp-7"]);
}
