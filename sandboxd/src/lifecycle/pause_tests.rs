//! Pausing and resuming against fake machines: what comes back, what is given back, and who wins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::capture::CaptureError;
use super::create::CreateError;
use super::manager::Manager;
use super::recovery::recover;
use super::resume::{Connected, ResumeError};
use super::sandbox::PauseMode;
use super::state::{OnTimeout, Phase, Refusal};
use super::tests::{House, new_id, spec};
use crate::admission::{Full, Used};
use crate::ids::SandboxId;
use crate::machine::Source;
use crate::machine::fake::{Guest, Mood};

async fn sandbox(manager: &Arc<Manager>) -> SandboxId {
    let created = manager.create(new_id(), spec(300), false).await.unwrap();
    created.view.id
}

fn write(house: &House, id: &SandboxId, memory: u64, disk: u64) {
    *house.fake.machine(id).unwrap().guest.lock().unwrap() = Guest { memory, disk };
}

fn read(house: &House, id: &SandboxId) -> (u64, u64) {
    let guest = *house.fake.machine(id).unwrap().guest.lock().unwrap();
    (guest.memory, guest.disk)
}

fn phase(manager: &Arc<Manager>, id: &SandboxId) -> Phase {
    manager.find(id).unwrap().lock().life.phase()
}

#[tokio::test]
async fn a_paused_sandbox_gives_everything_back_and_goes_on_where_it_was() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let before = manager.known(&id).unwrap().view().unwrap();
    write(&house, &id, 7, 8);
    let cut = manager.known(&id).unwrap().serving().unwrap().cut;
    manager.pause(&id, true).await.unwrap();
    assert!(cut.is_cancelled());
    assert_eq!(house.fake.alive(), 0);
    assert_eq!(manager.admission().used(), Used::default());
    let view = manager.known(&id).unwrap().view().unwrap();
    assert_eq!(view.paused, Some(PauseMode::Full));
    assert!(manager.known(&id).unwrap().serving().is_none());
    let again = manager.pause(&id, true).await;
    assert!(matches!(again, Err(CaptureError::Refused(Refusal::Paused))));
    assert_eq!(manager.set_timeout(&id, 5).await, Err(Refusal::Paused));

    let connected = manager.connect(&id, 60, true).await.unwrap();
    let Connected::Resumed(created) = connected else {
        panic!("it was paused")
    };
    assert_eq!(
        created.view.facts, before.facts,
        "tokens and environment too"
    );
    assert_eq!(created.view.span.started_at, before.span.started_at);
    assert_eq!(read(&house, &id), (7, 8));
    assert!(house.fake.snapshots.lock().unwrap().is_empty());
    assert!(manager.store().snapshots().await.unwrap().is_empty());
    let connected = manager.connect(&id, 60, true).await.unwrap();
    assert!(matches!(connected, Connected::Running(_)));
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn without_memory_it_boots_from_its_disk() {
    for (pause_memory, resume_memory) in [(false, true), (true, false), (false, false)] {
        let house = House::new();
        let manager = house.manager();
        let id = sandbox(&manager).await;
        write(&house, &id, 7, 8);
        manager.pause(&id, pause_memory).await.unwrap();
        manager.resume(&id, 60, resume_memory).await.unwrap();
        assert_eq!(read(&house, &id), (0, 8));
        let source = house
            .fake
            .plans
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .source
            .clone();
        assert!(matches!(source, Source::Disk(_)));
        manager.kill(&id).await.unwrap();
        house.settled(&manager).await;
    }
}

#[tokio::test]
async fn a_pause_that_fails_leaves_it_running_with_new_traffic() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let before = manager.known(&id).unwrap().serving().unwrap();
    let machine = house.fake.machine(&id).unwrap();
    machine.unresponsive.store(true, Ordering::Relaxed);
    assert!(manager.pause(&id, true).await.is_err());
    machine.unresponsive.store(false, Ordering::Relaxed);
    *house.fake.work.lock().unwrap() = Mood::Fails;
    assert!(manager.pause(&id, true).await.is_err());
    let after = manager.known(&id).unwrap().serving().unwrap();
    assert!(before.cut.is_cancelled() && !after.cut.is_cancelled());
    assert!(
        after.epoch > before.epoch,
        "no connection of before is used again"
    );
    assert!(manager.store().snapshots().await.unwrap().is_empty());
    *house.fake.work.lock().unwrap() = Mood::Works;
    manager.pause(&id, true).await.unwrap();
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_resume_that_fails_or_finds_no_room_leaves_it_paused() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    write(&house, &id, 7, 8);
    manager.pause(&id, true).await.unwrap();
    *house.fake.mood.lock().unwrap() = Mood::Fails;
    let failed = manager.resume(&id, 60, true).await;
    assert!(matches!(
        failed,
        Err(ResumeError::Failed(CreateError::Start(_)))
    ));
    *house.fake.mood.lock().unwrap() = Mood::Works;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(sandbox(&manager).await);
    }
    let full = manager.resume(&id, 60, true).await;
    assert!(matches!(
        full,
        Err(ResumeError::Failed(CreateError::Full(Full::Sandboxes(8))))
    ));
    assert_eq!(phase(&manager, &id), Phase::Paused);
    for other in others {
        manager.kill(&other).await.unwrap();
    }
    manager.resume(&id, 60, true).await.unwrap();
    assert_eq!(read(&house, &id), (7, 8));
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_kill_wins_over_a_pause_and_over_a_resume_at_once() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    *house.fake.work.lock().unwrap() = Mood::Hangs;
    let pausing = tokio::spawn({
        let (manager, id) = (manager.clone(), id.clone());
        async move { manager.pause(&id, true).await }
    });
    while phase(&manager, &id) != Phase::Pausing {
        tokio::task::yield_now().await;
    }
    manager.kill(&id).await.unwrap();
    assert!(manager.known(&id).is_none());
    assert!(matches!(pausing.await.unwrap(), Err(CaptureError::Aborted)));
    house.settled(&manager).await;

    *house.fake.work.lock().unwrap() = Mood::Works;
    let id = sandbox(&manager).await;
    manager.pause(&id, true).await.unwrap();
    *house.fake.mood.lock().unwrap() = Mood::Hangs;
    let resuming = tokio::spawn({
        let (manager, id) = (manager.clone(), id.clone());
        async move { manager.resume(&id, 60, true).await }
    });
    while house.fake.plans.lock().unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    manager.kill(&id).await.unwrap();
    assert!(manager.known(&id).is_none());
    assert!(resuming.await.unwrap().is_err());
    house.settled(&manager).await;
    assert!(house.fake.snapshots.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_comes_during_a_pause_waits_for_its_end() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let (paused, connected, other) = tokio::join!(
        biased;
        manager.pause(&id, true),
        manager.connect(&id, 60, true),
        manager.pause(&id, true),
    );
    paused.unwrap();
    assert!(matches!(connected.unwrap(), Connected::Resumed(_)));
    // It came before the connect or after it; it was not refused by chance.
    assert!(matches!(
        other,
        Ok(_) | Err(CaptureError::Refused(Refusal::Paused))
    ));
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_a_pause() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    tokio::select! {
        biased;
        _ = manager.pause(&id, true) => panic!("too early"),
        () = tokio::task::yield_now() => {}
    }
    manager.quiet(&manager.find(&id).unwrap()).await;
    assert_eq!(phase(&manager, &id), Phase::Paused);
    manager.kill(&id).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn time_pauses_where_that_was_asked_for() {
    let house = House::new();
    let manager = house.manager();
    for memory in [true, false] {
        let mut spec = spec(300);
        spec.on_timeout = OnTimeout::Pause { memory };
        let id = manager.create(new_id(), spec, false).await.unwrap().view.id;
        manager.set_timeout(&id, 0).await.unwrap();
        manager.quiet(&manager.find(&id).unwrap()).await;
        let view = manager.known(&id).unwrap().view().unwrap();
        assert_eq!(view.paused == Some(PauseMode::Full), memory);
        manager.kill(&id).await.unwrap();
    }
    house.settled(&manager).await;
}

#[tokio::test]
async fn an_old_machine_that_is_late_to_die_does_not_harm_the_new_one() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    for _ in 0..5 {
        manager.pause(&id, true).await.unwrap();
        manager.resume(&id, 60, true).await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(phase(&manager, &id), Phase::Running);
    }
    crate::machine::Machine::kill(&*house.fake.machine(&id).unwrap());
    house.settled(&manager).await;
}

#[tokio::test]
async fn what_is_paused_outlives_the_daemon_however_it_ends() {
    let house = House::new();
    let manager = house.manager();
    let id = sandbox(&manager).await;
    let running = sandbox(&manager).await;
    write(&house, &id, 7, 8);
    manager.pause(&id, true).await.unwrap();
    let before = manager.known(&id).unwrap().view().unwrap();
    // One daemon is told to stop, another one is killed.
    manager.shut_down(false, Duration::from_secs(10)).await;
    assert!(manager.known(&running).is_none());
    for _ in 0..2 {
        let next = house.fork();
        let manager = next.manager();
        let recovered = recover(&manager).await.unwrap();
        assert_eq!((recovered.paused, recovered.cleaned), (1, 0));
        let view = manager.known(&id).unwrap().view().unwrap();
        assert_eq!((view.span, &view.facts), (before.span, &before.facts));
        assert_eq!(view.paused, Some(PauseMode::Full));
    }
    let next = house.fork();
    let manager = next.manager();
    recover(&manager).await.unwrap();
    manager.connect(&id, 60, true).await.unwrap();
    assert_eq!(read(&next, &id), (7, 8));
    manager.kill(&id).await.unwrap();
    next.settled(&manager).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_a_pause_and_stops_a_resume() {
    let house = House::new();
    let manager = house.manager();
    let (pausing, resuming) = (sandbox(&manager).await, sandbox(&manager).await);
    manager.pause(&resuming, true).await.unwrap();
    *house.fake.mood.lock().unwrap() = Mood::Hangs;
    let plans = house.fake.plans.lock().unwrap().len();
    let tasks = [
        tokio::spawn({
            let (manager, id) = (manager.clone(), resuming.clone());
            async move { manager.resume(&id, 60, true).await.map(drop).is_ok() }
        }),
        tokio::spawn({
            let (manager, id) = (manager.clone(), pausing.clone());
            async move { manager.pause(&id, true).await.is_ok() }
        }),
    ];
    while house.fake.plans.lock().unwrap().len() == plans {
        tokio::task::yield_now().await;
    }
    manager.shut_down(false, Duration::from_secs(10)).await;
    let [resumed, paused] = tasks;
    assert!(!resumed.await.unwrap() && paused.await.unwrap());
    assert_eq!(phase(&manager, &pausing), Phase::Paused);
    assert_eq!(phase(&manager, &resuming), Phase::Paused);
    assert_eq!(house.fake.alive(), 0);
}
