//! The daemon is killed in the middle of an operation, after as many steps as chance has it: its tasks stop where they are,
//! machines and snapshots stay. The next daemon finds one of the allowed states, serves it, and nothing is left in the end.
//!
//! ```text
//!   runtime 1: operation, dropped after n steps ──► runtime 2: same store, same machines: recover ─► check ─► end all
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::manager::Manager;
use super::recovery::recover;
use super::state::Phase;
use super::tests::{House, new_id, spec};
use crate::ids::SandboxId;
use crate::machine::Machine;
use crate::machine::fake::Guest;
use crate::templates::Reference;

/// What is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Pause { memory: bool },
    Resume,
    Snapshot,
    Fork,
    Checkpoint,
    RollBack,
    Kill,
}

const ALL: [Operation; 9] = [
    Operation::Create,
    Operation::Pause { memory: true },
    Operation::Pause { memory: false },
    Operation::Resume,
    Operation::Snapshot,
    Operation::Fork,
    Operation::Checkpoint,
    Operation::RollBack,
    Operation::Kill,
];

fn reference() -> Reference {
    Reference::parse("mine").unwrap()
}

fn write(house: &House, id: &SandboxId, value: u64) {
    assert!(house.fake.machine(id).unwrap().write(value));
}

/// A sandbox that holds 2, with a checkpoint at which it held 1; paused where that is what will be undone.
async fn prepare(house: &House, manager: &Arc<Manager>, operation: Operation) -> SandboxId {
    let id = manager.create(new_id(), spec(600), false).await.unwrap();
    let id = id.view.id;
    write(house, &id, 1);
    manager.checkpoint(&id, "one".to_owned()).await.unwrap();
    write(house, &id, 2);
    if operation == Operation::Resume {
        manager.pause(&id, true).await.unwrap();
    }
    id
}

async fn carry_out(manager: &Arc<Manager>, id: &SandboxId, operation: Operation) {
    match operation {
        Operation::Create => drop(manager.create(new_id(), spec(600), false).await),
        Operation::Pause { memory } => drop(manager.pause(id, memory).await),
        Operation::Resume => drop(manager.resume(id, 600, true).await),
        Operation::Snapshot => drop(manager.take_snapshot(id, Some(reference()), true).await),
        Operation::Fork => drop(manager.fork(id, 2, 600).await),
        Operation::Checkpoint => drop(manager.checkpoint(id, "two".to_owned()).await),
        Operation::RollBack => drop(manager.roll_back(id, "one").await),
        Operation::Kill => {
            let _ = manager.kill(id).await;
            while manager.find(id).is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Lets other tasks run so many times, and the store's thread answer every fourth time: with a fast disk it has answered
/// after each sleep, and nothing would be cut off that waits for it.
async fn steps(number: u32) {
    for step in 0..number {
        tokio::task::yield_now().await;
        if step % 4 == 3 {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Begins an operation and stops everything after so many steps; says whether it had ended by then.
fn crash(house: &House, operation: Operation, after: u32) -> (SandboxId, bool) {
    let first = runtime();
    let done = first.block_on(async {
        let manager = house.manager();
        let id = prepare(house, &manager, operation).await;
        let ended = tokio::select! {
            biased;
            () = carry_out(&manager, &id, operation) => true,
            () = steps(after) => false,
        };
        (id, ended)
    });
    // All tasks of the daemon go with their runtime; what is on the store's queue is still written.
    drop(first);
    done
}

async fn check(house: &House, id: &SandboxId, operation: Operation, ended: bool) {
    let manager = house.manager();
    recover(&manager).await.unwrap();
    let phase = manager.find(id).map(|s| s.lock().life.phase());
    let context = format!("{operation:?}, ended: {ended}, then {phase:?}");
    match operation {
        Operation::Kill => assert!(
            matches!(phase, None | Some(Phase::Running)) && !(ended && phase.is_some()),
            "{context}"
        ),
        Operation::Pause { .. } | Operation::Resume => {
            let paused = phase == Some(Phase::Paused);
            assert!(paused || phase == Some(Phase::Running), "{context}");
            let wanted = matches!(operation, Operation::Pause { .. });
            assert!(
                !ended || paused == wanted,
                "{context}: the answer was given"
            );
        }
        _ => assert_eq!(phase, Some(Phase::Running), "{context}"),
    }
    if phase.is_some() {
        serves(house, &manager, id, operation, &context).await;
    }
    let named = manager.find_snapshot(&reference()).await.unwrap();
    assert!(operation == Operation::Snapshot || named.is_none());
    assert!(
        !ended || named.is_some() == (operation == Operation::Snapshot),
        "{context}"
    );
    if named.is_some() {
        manager.delete_snapshot(&reference()).await.unwrap();
    }
    for sandbox in manager.all() {
        manager.kill(&sandbox.id).await.unwrap();
    }
    house.settled(&manager).await;
}

/// The sandbox runs, or can be made to, with what it held, and can go back to its checkpoint.
async fn serves(
    house: &House,
    manager: &Arc<Manager>,
    id: &SandboxId,
    operation: Operation,
    context: &str,
) {
    manager.connect(id, 600, true).await.unwrap();
    let machine = house.fake.machine(id).unwrap();
    let guest = *machine.guest.lock().unwrap();
    let two = Guest { memory: 2, disk: 2 };
    match operation {
        Operation::RollBack => assert!([1, 2].contains(&guest.memory), "{context}: {guest:?}"),
        Operation::Pause { memory: false } => assert_eq!(guest.disk, 2, "{context}"),
        _ => assert_eq!(guest, two, "{context}"),
    }
    assert!(machine.write(3), "{context}: its guest stands still");
    manager.roll_back(id, "one").await.unwrap();
    assert_eq!(machine.guest.lock().unwrap().memory, 1, "{context}");
    assert!(futures_util::FutureExt::now_or_never(machine.exited()).is_none());
}

#[test]
fn a_daemon_that_is_killed_at_any_step_leaves_an_allowed_state_and_nothing_else() {
    for operation in ALL {
        let (mut cut, mut whole) = (0, 0);
        let mut after = 0;
        // Until the operation has ended before the kill a few times: by then every step has been cut off somewhere.
        while whole < 5 && after < 1600 {
            let house = House::new();
            let (id, ended) = crash(&house, operation, after);
            runtime().block_on(async {
                let next = house.reopen().await;
                check(&next, &id, operation, ended).await;
            });
            whole += u32::from(ended);
            cut += u32::from(!ended);
            after += 1;
        }
        assert!(
            cut > 3 && whole > 0,
            "{operation:?}: {cut} cut off, {whole} ended"
        );
    }
}
