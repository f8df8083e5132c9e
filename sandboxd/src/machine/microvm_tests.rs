//! What a process is told, and that a start that fails leaves nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Layout, MicrovmConfig, Microvms, Plan, StartError, configuration, machines_below};
use crate::egress::Tap;
use crate::ids::SandboxId;
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
    let config = MicrovmConfig {
        program: program.into(),
        kernel: "/k/vmlinux".into(),
        agent_disk: "/a/agent.erofs".into(),
        overlay_base: "/o/overlay.ext4".into(),
        start_timeout: Duration::from_secs(20),
        dns: vec![[8, 8, 8, 8].into()],
    };
    let layout = Layout::new(&dir.join("run"), &dir.join("state")).unwrap();
    Microvms::new(config, layout, None)
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
    let configure = configuration(&plan(false), &[]);
    assert_eq!(configure.network, None);
    assert_eq!(
        configure.env.into_iter().collect::<Vec<_>>(),
        [
            ("A".to_owned(), "1".to_owned()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned())
        ]
    );
    assert!(configure.unix_time_ns > 1_700_000_000_000_000_000);
    assert_ne!(configure.entropy, configuration(&plan(false), &[]).entropy);
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

#[tokio::test]
async fn an_orphan_is_found_by_its_control_path_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let machines = machines(dir.path(), "/bin/sh");
    let control = dir.path().join("run/iorphan/control.sock");
    let mut orphan = std::process::Command::new("sh")
        .args(["-c", "read line", "--control"])
        .arg(&control)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A new process has no command line for a moment after its parent goes on: the kernel lets the parent go when the
    // old memory is given up (execve(2)), and sets the arguments later.
    let pid = i32::try_from(orphan.id()).unwrap();
    machines_become(&dir.path().join("run"), &[pid]).await;
    let kept = SandboxId::parse("iorphan").unwrap();
    assert_eq!(
        machines
            .sweep([kept].into(), HashSet::new())
            .await
            .processes,
        0
    );
    assert_eq!(
        machines
            .sweep(HashSet::new(), HashSet::new())
            .await
            .processes,
        1
    );
    let _ = orphan.wait();
}
