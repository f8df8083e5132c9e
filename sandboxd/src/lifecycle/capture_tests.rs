//! Snapshots, forks, checkpoints and rollbacks against fake machines.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::capture::CaptureError;
use super::manager::Manager;
use super::recovery::recover;
use super::rollback::RollbackError;
use super::sandbox::AutoCheckpoint;
use super::snapshots::DeleteError;
use super::state::{Phase, Refusal};
use super::tests::{House, new_id, spec};
use crate::ids::SandboxId;
use crate::machine::fake::{Guest, Mood};
use crate::machine::{RollbackError as MachineError, Source};
use crate::store::captures::Kind;
use crate::store::sandboxes::{SavedPhase, SavedSnapshot};
use crate::templates::Reference;

async fn sandbox(manager: &Arc<Manager>) -> SandboxId {
    let created = manager.create(new_id(), spec(300), false).await.unwrap();
    created.view.id
}

fn write(house: &House, id: &SandboxId, memory: u64) {
    let guest = Guest {
        memory,
        disk: memory,
    };
    *house.fake.machine(id).unwrap().guest.lock().unwrap() = guest;
}

fn read(house: &House, id: &SandboxId) -> u64 {
    house.fake.machine(id).unwrap().guest.lock().unwrap().memory
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

async fn names(manager: &Manager, id: &SandboxId) -> Vec<String> {
    let rows = manager.checkpoints(id).await.unwrap().unwrap();
    rows.into_iter().filter_map(|row| row.checkpoint).collect()
}

#[tokio::test]
async fn the_source_of_a_snapshot_goes_on_and_the_newest_build_counts() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let serving = manager.known(&id).unwrap().serving().unwrap();
    let take = async |name: &str| {
        let taken = manager.take_snapshot(&id, Some(reference(name)), true);
        taken.await.unwrap().row
    };
    let (first, second, other) = (
        take("mine").await,
        take("mine").await,
        take("mine:v2").await,
    );
    assert!(!serving.cut.is_cancelled());
    let family = first.label.unwrap().family;
    assert_eq!(second.label.unwrap().family, family);
    let find = async |name: &str| {
        let found = manager.find_snapshot(&reference(name)).await.unwrap();
        found.map(|row| row.id)
    };
    assert_eq!(find("mine").await, Some(second.id.clone()));
    assert_eq!(find("mine:default").await, Some(second.id));
    assert_eq!(find("mine:v2").await, Some(other.id));
    assert_eq!(find(&format!("{family}:v2")).await, find("mine:v2").await);
    assert_eq!(find("mine:v3").await, None);
    assert_eq!(find("team/mine").await, None);
    // It outlives its source.
    manager.kill(&id).await.unwrap();
    while !manager.all().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(find("mine").await.is_some());
    manager
        .delete_snapshot(&reference("mine:v2"))
        .await
        .unwrap();
    assert_eq!(find("mine:v2").await, None);
    manager.delete_snapshot(&reference("mine")).await.unwrap();
    let again = manager.delete_snapshot(&reference("mine")).await;
    assert!(matches!(again, Err(DeleteError::NotFound)));
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_nothing_and_its_source_goes_on() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    *house.fake.work.lock().unwrap() = Mood::Fails;
    assert!(manager.take_snapshot(&id, None, true).await.is_err());
    assert!(manager.fork(&id, 2, 60).await.is_err());
    assert!(manager.checkpoint(&id, "a".to_owned()).await.is_err());
    assert!(manager.known(&id).unwrap().serving().is_some());
    let row = house.store.sandboxes().await.unwrap().remove(0);
    assert_eq!(row.phase, SavedPhase::Running);
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn children_go_on_where_their_parent_was_each_as_itself() {
    let house = House::new();
    let manager = house.manager();
    let mut spec = spec(300);
    spec.metadata = [("k".to_owned(), "v".to_owned())].into();
    spec.env = [("A".to_owned(), "1".to_owned())].into();
    let parent = manager.create(new_id(), spec, false).await.unwrap().view;
    write(&house, &parent.id, 7);
    let children = manager.fork(&parent.id, 5, 60).await.unwrap();
    write(&house, &parent.id, 8);
    let mut ids = HashSet::from([parent.id.clone()]);
    let mut tokens = HashSet::from([parent.facts.access_token.clone()]);
    for child in children {
        let view = child.unwrap().view;
        assert_eq!(read(&house, &view.id), 7);
        assert_eq!(view.facts.metadata, parent.facts.metadata);
        assert_eq!(view.facts.env, parent.facts.env);
        assert_eq!(view.network, parent.network);
        ids.insert(view.id);
        tokens.insert(view.facts.access_token);
    }
    assert_eq!((ids.len(), tokens.len()), (6, 6));
    assert!(house.fake.snapshots.lock().unwrap().is_empty());
    // Three more than there is room for.
    let some = manager.fork(&parent.id, 5, 60).await.unwrap();
    assert_eq!(some.iter().filter(|child| child.is_ok()).count(), 2);
    manager.pause(&parent.id, true).await.unwrap();
    let paused = manager.fork(&parent.id, 1, 60).await;
    assert!(matches!(
        paused,
        Err(CaptureError::Refused(Refusal::Paused))
    ));
    for sandbox in manager.all() {
        manager.kill(&sandbox.id).await.unwrap();
    }
    house.settled(&manager).await;
}

#[tokio::test]
async fn children_of_a_client_that_went_away_are_ended() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    tokio::select! {
        biased;
        _ = manager.fork(&id, 4, 60) => panic!("too early"),
        () = tokio::task::yield_now() => {}
    }
    for _ in 0..500 {
        if house.fake.plans.lock().unwrap().len() == 5 && manager.all().len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(house.fake.alive(), 1);
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_rollback_brings_back_what_was_and_cuts_what_will_not_be() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let before = manager.known(&id).unwrap().view().unwrap();
    write(&house, &id, 1);
    manager.checkpoint(&id, "one".to_owned()).await.unwrap();
    write(&house, &id, 2);
    manager.checkpoint(&id, "two".to_owned()).await.unwrap();
    let taken = manager.checkpoint(&id, "two".to_owned()).await;
    assert!(matches!(taken, Err(CaptureError::Exists(_))));
    let serving = manager.known(&id).unwrap().serving().unwrap();
    manager.roll_back(&id, "one").await.unwrap();
    assert!(serving.cut.is_cancelled());
    assert_eq!(read(&house, &id), 1);
    let after = manager.known(&id).unwrap();
    let (view, now) = (after.view().unwrap(), after.serving().unwrap());
    assert_eq!((view.facts, view.span), (before.facts, before.span));
    assert!(now.epoch > serving.epoch && !now.cut.is_cancelled());
    // Forward again, also after the sandbox was paused and has another machine.
    manager.roll_back(&id, "two").await.unwrap();
    assert_eq!(read(&house, &id), 2);
    manager.pause(&id, true).await.unwrap();
    let paused = manager.roll_back(&id, "one").await;
    assert!(matches!(
        paused,
        Err(RollbackError::Refused(Refusal::Paused))
    ));
    manager.resume(&id, 60, true).await.unwrap();
    manager.roll_back(&id, "one").await.unwrap();
    assert_eq!(read(&house, &id), 1);

    assert_eq!(names(&manager, &id).await, ["one", "two"]);
    assert!(manager.delete_checkpoint(&id, "one").await.unwrap());
    assert!(!manager.delete_checkpoint(&id, "one").await.unwrap());
    let cut = manager.known(&id).unwrap().serving().unwrap().cut;
    let gone = manager.roll_back(&id, "one").await;
    assert!(matches!(gone, Err(RollbackError::NoCheckpoint)));
    assert!(!cut.is_cancelled(), "without a checkpoint nothing is cut");
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_rollback_that_is_refused_leaves_it_running_and_one_that_is_lost_ends_it() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    write(&house, &id, 1);
    manager.checkpoint(&id, "one".to_owned()).await.unwrap();
    write(&house, &id, 2);
    *house.fake.work.lock().unwrap() = Mood::Fails;
    let refused = manager.roll_back(&id, "one").await;
    assert!(matches!(
        refused,
        Err(RollbackError::Machine(MachineError::Refused(_)))
    ));
    assert_eq!(read(&house, &id), 2);
    assert!(manager.known(&id).unwrap().serving().is_some());
    *house.fake.work.lock().unwrap() = Mood::Hangs;
    let rolling = tokio::spawn({
        let (manager, id) = (manager.clone(), id.clone());
        async move { manager.roll_back(&id, "one").await }
    });
    while manager.find(&id).unwrap().lock().life.phase() != Phase::RollingBack {
        tokio::task::yield_now().await;
    }
    crate::machine::Machine::kill(&*house.fake.machine(&id).unwrap());
    assert!(rolling.await.unwrap().is_err());
    house.settled(&manager).await;
}

#[tokio::test]
async fn automatic_checkpoints_come_before_every_so_many_commands_and_the_oldest_go() {
    let house = House::new();
    let manager = house.manager();
    let mut spec = spec(300);
    spec.auto_checkpoint = Some(AutoCheckpoint {
        every_commands: 2,
        keep: 2,
    });
    let id = manager.create(new_id(), spec, false).await.unwrap().view.id;
    let sandbox = manager.known(&id).unwrap();
    manager.checkpoint(&id, "mine".to_owned()).await.unwrap();
    for number in 1..=6 {
        manager.before_command(&sandbox).await;
        write(&house, &id, number);
    }
    assert_eq!(names(&manager, &id).await, ["mine", "auto-2", "auto-3"]);
    manager.roll_back(&id, "auto-2").await.unwrap();
    assert_eq!(read(&house, &id), 2, "as it was before the third command");
    // One that fails does not keep the command from being sent.
    let machine = house.fake.machine(&id).unwrap();
    machine.unresponsive.store(true, Ordering::Relaxed);
    manager.before_command(&sandbox).await;
    assert_eq!(names(&manager, &id).await.len(), 3);
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_restart_keeps_checkpoints_and_named_snapshots_and_drops_the_rest() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    write(&house, &id, 1);
    manager.checkpoint(&id, "one".to_owned()).await.unwrap();
    let named = manager
        .take_snapshot(&id, Some(reference("mine")), true)
        .await
        .unwrap()
        .row;
    let mut orphan = named.clone();
    orphan.id = crate::ids::SnapshotId::generate().unwrap();
    orphan.kind = Kind::Fork;
    house.store.insert_snapshot(orphan.clone()).await.unwrap();
    let folder = house.fake.snapshots.lock().unwrap()[&named.id].clone();
    for id in [orphan.id, crate::ids::SnapshotId::generate().unwrap()] {
        house
            .fake
            .snapshots
            .lock()
            .unwrap()
            .insert(id, folder.clone());
    }
    let next = house.fork();
    let manager = next.manager();
    recover(&manager).await.unwrap();
    assert_eq!(next.fake.snapshots.lock().unwrap().len(), 2);
    assert_eq!(next.store.snapshots().await.unwrap().len(), 2);
    write(&next, &id, 2);
    manager.roll_back(&id, "one").await.unwrap();
    assert_eq!(read(&next, &id), 1);
    manager.delete_snapshot(&reference("mine")).await.unwrap();
    manager.kill(&id).await.unwrap();
    next.settled(&manager).await;
}

#[tokio::test]
async fn a_rollback_that_a_daemon_did_not_live_to_finish_is_finished_by_the_next() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    write(&house, &id, 1);
    let row = manager.checkpoint(&id, "one".to_owned()).await.unwrap().row;
    write(&house, &id, 2);
    let target = SavedSnapshot {
        id: row.id,
        memory: true,
    };
    house
        .store
        .begin_work(id.clone(), SavedPhase::RollingBack, Some(target))
        .await
        .unwrap();
    let next = house.fork();
    let manager = next.manager();
    recover(&manager).await.unwrap();
    assert_eq!(read(&next, &id), 1);
    assert!(manager.known(&id).unwrap().serving().is_some());
    manager.kill(&id).await.unwrap();
    next.settled(&manager).await;
}

#[tokio::test]
async fn a_snapshot_in_use_stays() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    write(&house, &id, 5);
    let row = manager
        .take_snapshot(&id, Some(reference("mine")), true)
        .await
        .unwrap()
        .row;
    let mut spec = spec(300);
    spec.source = Source::Memory(row.id.clone());
    let label = row.label.unwrap();
    spec.origin = Some(super::sandbox::Origin {
        snapshot: row.id,
        family: label.family,
        name: label.name,
    });
    let child = manager.create(new_id(), spec, false).await.unwrap().view.id;
    assert_eq!(read(&house, &child), 5);
    let used = manager.delete_snapshot(&reference("mine")).await;
    assert!(matches!(used, Err(DeleteError::InUse(user)) if user == child));
    manager.pause(&child, true).await.unwrap();
    assert!(manager.delete_snapshot(&reference("mine")).await.is_err());
    manager.kill(&child).await.unwrap();
    while manager.find(&child).is_some() {
        tokio::task::yield_now().await;
    }
    manager.delete_snapshot(&reference("mine")).await.unwrap();
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}
