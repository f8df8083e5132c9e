//! Which rows are adopted or kept, and what a restart does with the rest.

use std::collections::HashSet;
use std::sync::Arc;

use super::{
    Kind, Moment, OnTimeout, Plan, SavedCapture, SavedPhase, SavedSandbox, Span, keeps, plan,
    recover,
};
use crate::ids::{SandboxId, SnapshotId};
use crate::lifecycle::tests::{House, spec};
use crate::machine::process::ProcessIdentity;
use crate::store::facts::{FactsV1, SavedFacts, SavedPolicy};
use crate::store::sandboxes::SavedSnapshot;

fn facts() -> FactsV1 {
    FactsV1 {
        template_id: "base".to_owned(),
        alias: None,
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 1,
        timeout: 15,
        metadata: [].into(),
        access_token: None,
        traffic_token: None,
        mask_request_host: None,
        allow_internet_access: None,
        network: None,
        policy: SavedPolicy {
            allow_by_default: false,
            allow: vec![],
            deny: vec![],
        },
    }
}

fn snapshot(text: &str) -> SnapshotId {
    SnapshotId::parse(text).unwrap()
}

fn row(phase: SavedPhase) -> SavedSandbox {
    SavedSandbox {
        id: SandboxId::parse("ia").unwrap(),
        phase,
        known: SavedFacts::V1(facts()).known(),
        process: Some(ProcessIdentity {
            pid: 1,
            start_time: 1,
        }),
        slot: None,
        span: Some(Span {
            started_at: Moment::from_micros(0),
            since: Moment::from_micros(0),
            end_at: Moment::from_micros(100),
        }),
        snapshot: Some(SavedSnapshot {
            id: snapshot("sp"),
            memory: true,
        }),
    }
}

fn verdict(row: SavedSandbox, whole: bool, untold: bool) -> String {
    let untold: HashSet<_> = untold.then(|| row.id.clone()).into_iter().collect();
    match plan(row, whole, &untold, Moment::from_micros(50)) {
        Plan::Adopt(row) => match row.back_to {
            None => "adopt".to_owned(),
            Some(to) => format!("adopt and go back to {to}"),
        },
        Plan::Rest(row) => format!("paused to {}", row.rest.snapshot),
        Plan::Clean(why) => why.to_owned(),
    }
}

#[test]
fn every_phase_has_its_verdict() {
    use SavedPhase::{
        Capturing, Creating, Paused, Pausing, Resuming, RollingBack, Running, Stopping,
    };
    let gone = "the snapshot that it was paused to is gone";
    for (phase, whole, not_whole) in [
        (
            Creating,
            "it was still being created",
            "it was still being created",
        ),
        (Stopping, "it was being ended", "it was being ended"),
        (Running, "adopt", "adopt"),
        (Capturing, "adopt", "adopt"),
        (RollingBack, "adopt and go back to sp", "adopt"),
        (Pausing, "paused to sp", "adopt"),
        (Paused, "paused to sp", gone),
        (Resuming, "paused to sp", gone),
    ] {
        assert_eq!(verdict(row(phase), true, false), whole, "{phase:?}");
        assert_eq!(verdict(row(phase), false, false), not_whole, "{phase:?}");
        let mut broken = row(phase);
        broken.known = None;
        assert!(!verdict(broken, true, false).contains("adopt"), "{phase:?}");
    }
}

#[test]
fn only_what_is_whole_known_and_in_its_time_is_adopted() {
    assert_eq!(
        verdict(row(SavedPhase::Running), false, true),
        "no client was told about it"
    );
    let unreadable = "its row cannot be read";
    let mut broken = row(SavedPhase::Running);
    broken.process = None;
    assert_eq!(verdict(broken, false, false), unreadable);
    let mut broken = row(SavedPhase::Paused);
    broken.span = None;
    assert_eq!(verdict(broken, true, false), unreadable);
    for phase in [SavedPhase::Running, SavedPhase::Pausing] {
        let mut late = row(phase);
        late.span = late.span.map(|span| Span {
            end_at: Moment::from_micros(50),
            ..span
        });
        assert_eq!(verdict(late.clone(), false, false), "its time was over");
        late.known.as_mut().unwrap().on_timeout = OnTimeout::Pause { memory: true };
        assert_eq!(verdict(late, false, false), "adopt", "the timer pauses it");
    }
}

#[test]
fn a_snapshot_is_kept_when_somebody_may_ask_for_it() {
    let living: HashSet<_> = [SandboxId::parse("ia").unwrap()].into();
    let rests: HashSet<_> = [snapshot("sp")].into();
    let kept = |id: &str, kind, sandbox: &str, whole, there| {
        let row = SavedCapture {
            id: snapshot(id),
            kind,
            sandbox: SandboxId::parse(sandbox).unwrap(),
            whole,
            memory: true,
            checkpoint: None,
            label: None,
            known: None,
            created_at: Moment::from_micros(0),
        };
        keeps(&row, there, &living, &rests)
    };
    assert!(kept("sp", Kind::Pause, "ia", false, true));
    assert!(!kept("sq", Kind::Pause, "ia", true, true));
    assert!(!kept("sf", Kind::Fork, "ia", true, true));
    assert!(kept("sc", Kind::Checkpoint, "ia", true, true));
    assert!(!kept("sc", Kind::Checkpoint, "ib", true, true));
    assert!(!kept("sc", Kind::Checkpoint, "ia", false, true));
    assert!(kept("sn", Kind::Named, "ib", true, true));
    assert!(!kept("sn", Kind::Named, "ib", false, true));
    for kind in [Kind::Pause, Kind::Checkpoint, Kind::Named] {
        assert!(
            !kept("sp", kind, "ia", true, false),
            "a row without a folder"
        );
    }
}

#[tokio::test]
async fn a_restart_adopts_the_living_and_cleans_up_after_the_dead() {
    let house = House::new();
    let manager = house.manager();
    let living = manager.create(SandboxId::generate().unwrap(), spec(300), false);
    let living = living.await.unwrap().view;
    let dead = manager.create(SandboxId::generate().unwrap(), spec(300), false);
    let dead = dead.await.unwrap().view;
    let orphan = SandboxId::parse("iorphan").unwrap();
    let mut plan = house.fake.plans.lock().unwrap()[0].clone();
    plan.id = orphan;
    drop(crate::machine::Hypervisor::start(&*house.fake, plan).await);
    // The daemon is killed: nothing of it runs on, its machines do, and one of them dies meanwhile.
    let stopped = house.store.sandboxes().await.unwrap();
    assert_eq!(stopped.len(), 2);
    let fresh = house.fork();
    crate::machine::Machine::kill(&*house.fake.machine(&dead.id).unwrap());

    let manager = fresh.manager();
    let recovered = recover(&manager).await.unwrap();
    assert_eq!(recovered.adopted + recovered.cleaned, 2);
    let view = manager.known(&living.id).unwrap().view().unwrap();
    assert_eq!(view.span, living.span);
    assert_eq!(view.facts, living.facts);
    assert_eq!(view.network, living.network);
    assert!(manager.known(&dead.id).is_none());
    assert_eq!(recovered.processes_ended, 1);
    assert_eq!(fresh.fake.alive(), 1);
    let rows = fresh.store.sandboxes().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(manager.admission().used().sandboxes, 1);
    manager.kill(&living.id).await.unwrap();
    fresh.settled(&manager).await;
    let _ = Arc::strong_count(&manager);
}
