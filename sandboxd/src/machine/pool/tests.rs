//! The pool over a script that answers like a `microvm` process.

use std::path::Path;

use super::*;
use crate::machine::layout::Layout;
use crate::machine::process::machines_below;

/// Answers every request that comes by standard input, until that closes.
const OBEDIENT: &str = r#"#!/bin/sh
while read -r line; do
    id=${line#*'"id":'}
    echo "{\"id\":${id%%,*},\"ok\":{\"stages\":[]}}" >&0
done
"#;

struct Rig {
    pool: Pool,
    layout: Layout,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(program: &str, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, program).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).unwrap();
        let layout = Layout::new(&dir.path().join("run"), &dir.path().join("state")).unwrap();
        let spawner = Spawner {
            program: path,
            layout: layout.clone(),
            cgroups: None,
        };
        let pool = Pool::new(spawner, limits);
        Self { pool, layout, dir }
    }

    fn run(&self) -> &Path {
        self.layout.run_dir()
    }

    /// Waits up to 10 s until `count` processes wait.
    async fn waiting(&self, count: usize) {
        for _ in 0..1_000 {
            if self.pool.identities().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.pool.identities().len(), count);
    }
}

fn kind(snapshot: Option<&str>) -> Kind {
    let shape = r#"{"vcpus":1,"memory_mib":128}"#;
    Kind {
        shape: serde_json::from_str(shape).unwrap(),
        disk_mib: 64,
        snapshot: snapshot.map(Into::into),
    }
}

const LIMITS: Limits = Limits { least: 1, most: 3 };

#[tokio::test]
async fn what_is_taken_is_replaced_and_a_burst_is_remembered() {
    let rig = Rig::new(OBEDIENT, LIMITS);
    let base = kind(Some("/base"));
    assert!(rig.pool.take(&base).is_none(), "nothing is ready yet");
    rig.pool.keep_ready(base.clone());
    rig.waiting(1).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        rig.waiting(1.max(held.len() + 1)).await;
        held.push(rig.pool.take(&base).unwrap());
    }
    // Three were asked for at once.
    rig.waiting(3).await;
    let names: HashSet<_> = held.iter().map(|spawned| spawned.name.clone()).collect();
    assert_eq!(names.len(), 2);
    assert!(rig.pool.names().is_disjoint(&names), "they are somebody's");
    for spawned in &held {
        assert!(
            spawned.name.as_str().starts_with('p') && rig.layout.of(&spawned.name).run.is_dir()
        );
    }
    rig.pool.close().await;
    assert_eq!(rig.layout.present(), names.into_iter().collect());
    let left: HashSet<_> = machines_below(rig.run()).into_iter().collect();
    let ours = held.iter().map(|spawned| spawned.process.identity().pid);
    assert_eq!(left, ours.collect());
    assert!(rig.pool.take(&base).is_none());
    for spawned in held {
        spawned.end().await;
    }
}

#[tokio::test]
async fn another_snapshot_of_the_same_shape_is_served_another_shape_is_not() {
    let rig = Rig::new(OBEDIENT, LIMITS);
    rig.pool.keep_ready(kind(Some("/base")));
    rig.waiting(1).await;
    let larger = Kind {
        disk_mib: 128,
        ..kind(Some("/base"))
    };
    assert!(rig.pool.take(&larger).is_none());
    let taken = rig.pool.take(&kind(None)).unwrap();
    taken.end().await;
    // Both what was taken from and what was asked for are made again; what is given up goes.
    rig.pool.give_up(&larger).await;
    rig.waiting(2).await;
    rig.pool.give_up(&kind(Some("/base"))).await;
    rig.waiting(1).await;
    rig.pool.close().await;
}

#[tokio::test]
async fn what_dies_while_it_waits_is_replaced_after_a_pause() {
    let rig = Rig::new(OBEDIENT, LIMITS);
    rig.pool.keep_ready(kind(None));
    rig.waiting(1).await;
    let first = rig.pool.names();
    let began = Instant::now();
    let [pid] = machines_below(rig.run())[..] else {
        panic!("one process")
    };
    super::super::process::Process::hold(pid).unwrap().kill();
    while rig.pool.names() == first || rig.pool.identities().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "it is replaced");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(rig.layout.present(), rig.pool.names().into_iter().collect());
    rig.pool.close().await;
    assert!(rig.layout.present().is_empty());
}

#[tokio::test]
async fn a_program_that_fails_is_not_started_again_and_again() {
    let count = "echo x >> ${0%/*}/starts";
    let rig = Rig::new(&format!("#!/bin/sh\n{count}\nexit 1\n"), LIMITS);
    rig.pool.keep_ready(kind(None));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let starts = std::fs::read_to_string(rig.dir.path().join("starts")).unwrap();
    let starts = starts.lines().count();
    assert!((1..=3).contains(&starts), "{starts} starts");
    assert!(rig.pool.take(&kind(None)).is_none());
    rig.pool.close().await;
    assert!(rig.layout.present().is_empty());
}

#[tokio::test]
async fn without_a_pool_nothing_is_made() {
    let rig = Rig::new(OBEDIENT, Limits { least: 0, most: 0 });
    rig.pool.keep_ready(kind(None));
    assert!(rig.pool.take(&kind(None)).is_none());
    assert!(rig.pool.0.lock().keeper.is_none());
    rig.pool.close().await;
}
