//! Which rows are adopted, and what a restart does with the rest.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Moment, Plan, SavedPhase, SavedPolicy, SavedSandbox, Span, plan, recover};
use crate::ids::SandboxId;
use crate::lifecycle::tests::{House, spec};
use crate::machine::process::ProcessIdentity;
use crate::store::sandboxes::FactsV1;

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

fn row() -> SavedSandbox {
    SavedSandbox {
        id: SandboxId::parse("ia").unwrap(),
        phase: SavedPhase::Running,
        facts: Some(facts()),
        process: Some(ProcessIdentity {
            pid: 1,
            start_time: 1,
        }),
        slot: None,
        span: Some(Span {
            started_at: Moment::from_micros(0),
            end_at: Moment::from_micros(100),
        }),
    }
}

fn why(row: SavedSandbox, untold: bool) -> &'static str {
    let untold: HashSet<_> = untold.then(|| row.id.clone()).into_iter().collect();
    match plan(row, &untold, Moment::from_micros(50)) {
        Plan::Adopt(_) => "adopt",
        Plan::Clean(why) => why,
    }
}

#[test]
fn only_a_running_row_that_is_whole_and_known_is_adopted() {
    assert_eq!(why(row(), false), "adopt");
    assert_eq!(why(row(), true), "no client was told about it");
    let mut other = row();
    other.phase = SavedPhase::Creating;
    assert_eq!(why(other.clone(), false), "it was still being created");
    other.phase = SavedPhase::Stopping;
    assert_eq!(why(other, false), "it was being ended");
    let mut broken = row();
    broken.facts = None;
    assert_eq!(why(broken, false), "its row cannot be read");
    let mut broken = row();
    broken.process = None;
    assert_eq!(why(broken, false), "its row cannot be read");
    let mut late = row();
    late.span = late.span.map(|span| Span {
        end_at: Moment::from_micros(50),
        ..span
    });
    assert_eq!(why(late, false), "its time was over");
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
    let view = manager.running(&living.id).unwrap().view().unwrap();
    assert_eq!(view.span, living.span);
    assert_eq!(view.facts, living.facts);
    assert_eq!(view.network, living.network);
    assert!(manager.running(&dead.id).is_none());
    assert_eq!(recovered.processes_ended, 1);
    assert_eq!(fresh.fake.alive(), 1);
    let rows = fresh.store.sandboxes().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(manager.admission().used().sandboxes, 1);
    manager.kill(&living.id).await.unwrap();
    fresh.settled(&manager).await;
    let _ = Arc::strong_count(&manager);
}
