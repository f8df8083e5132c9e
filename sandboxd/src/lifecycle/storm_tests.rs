//! Random operations, several at once, against one sandbox: whatever the manager answered and left behind must be what a
//! plain model gives for the same operations one after the other, in some order.
//!
//! ```text
//!   batch of 1 to 4 operations ─► all at once through the manager ─► answers, state at rest
//!                              └► every order through the model ───► one of them has the same answers and state
//! ```
//!
//! Machines that fail or hang, and machines that die, are part of a batch. At the end nothing of any sandbox is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::capture::CaptureError;
use super::create::CreateError;
use super::manager::Manager;
use super::resume::{Connected, ResumeError};
use super::rollback::RollbackError;
use super::state::{OnTimeout, Phase, Refusal};
use super::tests::{House, new_id, spec};
use crate::ids::SandboxId;
use crate::machine::Machine;
use crate::machine::fake::{Guest, Mood};
use crate::moment::Moment;
use crate::templates::Reference;

/// What somebody does.
#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u64),
    Pause { memory: bool },
    Connect { memory: bool },
    Resume,
    Extend,
    Expire,
    Snapshot,
    Fork,
    Checkpoint(u8),
    RollBack(u8),
    DeleteCheckpoint(u8),
    Die,
    Kill,
}

/// What they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Done,
    Running,
    Resumed,
    Paused,
    Missing,
    Exists,
    Failed,
    Gone,
    /// What a child of a fork holds.
    Child(Guest),
}

/// What a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    Running(Guest, BTreeMap<u8, Guest>),
    Paused {
        memory: bool,
        guest: Guest,
        checkpoints: BTreeMap<u8, Guest>,
    },
    Gone,
}

/// How machines behave during a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weather {
    start: Mood,
    work: Mood,
    pauses: bool,
}

impl Model {
    /// Does one operation and says what is answered.
    fn apply(&mut self, op: Op, weather: Weather) -> Said {
        match self.clone() {
            Self::Gone => match op {
                Op::Die => Said::Done,
                Op::DeleteCheckpoint(_) => Said::Missing,
                _ => Said::Gone,
            },
            Self::Running(guest, checkpoints) => {
                self.while_running(op, weather, guest, checkpoints)
            }
            Self::Paused {
                memory,
                guest,
                checkpoints,
            } => self.while_paused(op, weather, memory, guest, checkpoints),
        }
    }

    fn while_running(
        &mut self,
        op: Op,
        weather: Weather,
        guest: Guest,
        mut checkpoints: BTreeMap<u8, Guest>,
    ) -> Said {
        let works = weather.work == Mood::Works;
        let pause = |memory| Self::Paused {
            memory,
            guest,
            checkpoints: checkpoints.clone(),
        };
        match op {
            Op::Write(value) => {
                let guest = Guest {
                    memory: value,
                    disk: value,
                };
                *self = Self::Running(guest, checkpoints);
                Said::Done
            }
            Op::Connect { .. } | Op::Resume => Said::Running,
            Op::Extend => Said::Done,
            Op::Expire if weather.pauses => {
                if works {
                    *self = pause(true);
                }
                Said::Done
            }
            Op::Expire | Op::Kill | Op::Die => {
                *self = Self::Gone;
                Said::Done
            }
            Op::Checkpoint(name) if checkpoints.contains_key(&name) => Said::Exists,
            Op::RollBack(name) if !checkpoints.contains_key(&name) => Said::Missing,
            Op::DeleteCheckpoint(name) => {
                let removed = checkpoints.remove(&name);
                *self = Self::Running(guest, checkpoints);
                removed.map_or(Said::Missing, |_| Said::Done)
            }
            _ if !works => Said::Failed,
            Op::Pause { memory } => {
                *self = pause(memory);
                Said::Done
            }
            Op::Snapshot => Said::Done,
            Op::Fork if weather.start == Mood::Works => Said::Child(guest),
            Op::Fork => Said::Failed,
            Op::Checkpoint(name) => {
                checkpoints.insert(name, guest);
                *self = Self::Running(guest, checkpoints);
                Said::Done
            }
            Op::RollBack(name) => {
                let guest = checkpoints[&name];
                *self = Self::Running(guest, checkpoints);
                Said::Done
            }
        }
    }

    fn while_paused(
        &mut self,
        op: Op,
        weather: Weather,
        held: bool,
        guest: Guest,
        mut checkpoints: BTreeMap<u8, Guest>,
    ) -> Said {
        match op {
            Op::Die => Said::Done,
            Op::Kill => {
                *self = Self::Gone;
                Said::Done
            }
            Op::Connect { .. } | Op::Resume if weather.start != Mood::Works => Said::Failed,
            Op::Connect { memory } => {
                let memory = if held && memory { guest.memory } else { 0 };
                *self = Self::Running(Guest { memory, ..guest }, checkpoints);
                Said::Resumed
            }
            Op::Resume => {
                let memory = if held { guest.memory } else { 0 };
                *self = Self::Running(Guest { memory, ..guest }, checkpoints);
                Said::Resumed
            }
            Op::RollBack(name) if !checkpoints.contains_key(&name) => Said::Missing,
            Op::DeleteCheckpoint(name) => {
                let removed = checkpoints.remove(&name);
                *self = Self::Paused {
                    memory: held,
                    guest,
                    checkpoints,
                };
                removed.map_or(Said::Missing, |_| Said::Done)
            }
            _ => Said::Paused,
        }
    }
}

fn refused(refusal: Refusal) -> Said {
    match refusal {
        Refusal::Running => Said::Running,
        Refusal::Paused => Said::Paused,
        Refusal::Gone | Refusal::BeingKilled | Refusal::NotYetRunning => Said::Gone,
        Refusal::InTransition | Refusal::OutOfPlace => panic!("{refusal:?}: wedged"),
    }
}

fn captured(error: CaptureError) -> Said {
    match error {
        CaptureError::Refused(refusal) => refused(refusal),
        CaptureError::Exists(_) => Said::Exists,
        CaptureError::Aborted | CaptureError::Snapshot(crate::machine::SnapshotError::Lost(_)) => {
            Said::Gone
        }
        CaptureError::Snapshot(_) => Said::Failed,
        CaptureError::Id(_) | CaptureError::Store(_) => panic!("{error}"),
    }
}

fn resumed(error: ResumeError) -> Said {
    match error {
        ResumeError::Refused(refusal) => refused(refusal),
        ResumeError::Failed(CreateError::Aborted) => Said::Gone,
        ResumeError::Failed(CreateError::Start(_)) => Said::Failed,
        ResumeError::Failed(error) => panic!("{error}"),
    }
}

/// One sandbox, and what acts on it.
#[derive(Clone)]
struct Stage {
    house: Arc<House>,
    manager: Arc<Manager>,
    id: SandboxId,
}

impl Stage {
    async fn act(&self, op: Op) -> Said {
        let (manager, id) = (&self.manager, &self.id);
        match op {
            Op::Write(value) => self.write(value).await,
            Op::Pause { memory } => {
                let paused = manager.pause(id, memory).await;
                paused.map_or_else(captured, |_| Said::Done)
            }
            Op::Connect { memory } => match manager.connect(id, 600, memory).await {
                Ok(Connected::Running(_)) => Said::Running,
                Ok(Connected::Resumed(_)) => Said::Resumed,
                Err(error) => resumed(error),
            },
            Op::Resume => {
                let outcome = manager.resume(id, 600, true).await;
                outcome.map_or_else(resumed, |_| Said::Resumed)
            }
            Op::Extend => {
                let outcome = manager.set_timeout(id, 600).await;
                outcome.map_or_else(refused, |()| Said::Done)
            }
            Op::Expire => {
                let outcome = manager.set_timeout(id, 0).await;
                outcome.map_or_else(refused, |()| Said::Done)
            }
            Op::Snapshot => match manager.take_snapshot(id, None, true).await {
                Ok(taken) => {
                    let name = taken.row.label.unwrap().family.to_string();
                    let reference = Reference::parse(&name).unwrap();
                    manager.delete_snapshot(&reference).await.unwrap();
                    Said::Done
                }
                Err(error) => captured(error),
            },
            Op::Fork => match manager.fork(id, 1, 600).await {
                Ok(mut children) => match children.remove(0) {
                    Ok(child) => {
                        let machine = self.house.fake.machine(&child.view.id).unwrap();
                        let guest = *machine.guest.lock().unwrap();
                        manager.kill(&child.view.id).await.unwrap();
                        Said::Child(guest)
                    }
                    Err(_) => Said::Failed,
                },
                Err(error) => captured(error),
            },
            Op::Checkpoint(name) => {
                let taken = manager.checkpoint(id, name.to_string()).await;
                taken.map_or_else(captured, |_| Said::Done)
            }
            Op::RollBack(name) => match manager.roll_back(id, &name.to_string()).await {
                Ok(_) => Said::Done,
                Err(RollbackError::Refused(refusal)) => refused(refusal),
                Err(RollbackError::NoCheckpoint) if manager.known(id).is_none() => Said::Gone,
                Err(RollbackError::NoCheckpoint) => Said::Missing,
                Err(RollbackError::Machine(crate::machine::RollbackError::Refused(_))) => {
                    Said::Failed
                }
                Err(RollbackError::Aborted | RollbackError::Machine(_)) => Said::Gone,
                Err(error) => panic!("{error}"),
            },
            Op::DeleteCheckpoint(name) => {
                let deleted = manager.delete_checkpoint(id, &name.to_string()).await;
                if deleted.unwrap() {
                    Said::Done
                } else {
                    Said::Missing
                }
            }
            Op::Die => {
                if let Some(machine) = manager.find(id).and_then(|s| s.lock().machine.clone()) {
                    machine.kill();
                }
                Said::Done
            }
            Op::Kill => manager.kill(id).await.map_or_else(refused, |()| Said::Done),
        }
    }

    /// Does something in the guest, as a request through the proxy would that does not wake the sandbox.
    async fn write(&self, value: u64) -> Said {
        loop {
            let Some(sandbox) = self.manager.find(&self.id) else {
                return Said::Gone;
            };
            let machine = self.house.fake.machine(&self.id).unwrap();
            if sandbox.serving().is_some() && machine.write(value) {
                return Said::Done;
            }
            self.manager.quiet(&sandbox).await;
            match sandbox.lock().life.phase() {
                Phase::Paused => return Said::Paused,
                Phase::Killing { .. } | Phase::Ending(_) | Phase::Gone => return Said::Gone,
                _ => {}
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Waits until nothing will happen any more by itself, and says what the sandbox is.
    async fn rest(&self) -> Model {
        for _ in 0..10_000 {
            if let Some(model) = self.at_rest().await {
                return model;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the sandbox is wedged in {:?}", self.phase());
    }

    fn phase(&self) -> Option<Phase> {
        self.manager.find(&self.id).map(|s| s.lock().life.phase())
    }

    async fn at_rest(&self) -> Option<Model> {
        let Some(phase) = self.phase() else {
            // Children that were ended are gone as well.
            return self.manager.all().is_empty().then_some(Model::Gone);
        };
        if self.manager.all().len() > 1 {
            return None;
        }
        let rows = self.manager.checkpoints(&self.id).await.unwrap()?;
        let snapshots = self.house.fake.snapshots.lock().unwrap().clone();
        let checkpoints = rows
            .iter()
            .map(|row| {
                let name = row.checkpoint.as_ref().unwrap().parse().unwrap();
                (name, snapshots[&row.id].guest)
            })
            .collect();
        let sandbox = self.manager.find(&self.id)?;
        let inner = sandbox.lock();
        match phase {
            Phase::Running => {
                let machine = self.house.fake.machine(&self.id)?;
                let over = inner.life.span()?.end_at <= Moment::now();
                let dead = futures_util::FutureExt::now_or_never(machine.exited()).is_some();
                let guest = *machine.guest.lock().unwrap();
                (!over && !dead).then_some(Model::Running(guest, checkpoints))
            }
            Phase::Paused => {
                let rest = inner.rest.clone()?;
                Some(Model::Paused {
                    memory: rest.memory,
                    guest: snapshots[&rest.snapshot].guest,
                    checkpoints,
                })
            }
            _ => None,
        }
    }
}

/// All orders of the first `n` numbers.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let shorter = orders(n - 1);
    let mut all = Vec::new();
    for order in shorter {
        for place in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(place, n - 1);
            all.push(longer);
        }
    }
    all
}

/// Whether some order of the operations explains what was said and what was left. Whoever is told that a sandbox is gone
/// may have had an effect before it ended.
fn explained(before: &Model, ops: &[Op], weather: Weather, said: &[Said], after: &Model) -> bool {
    orders(ops.len()).into_iter().any(|order| {
        let mut model = before.clone();
        let all = order.into_iter().all(|which| {
            let answer = model.apply(ops[which], weather);
            // An end of the time is accepted even when the pause that follows meets a machine that has just died.
            let may = said[which] == Said::Gone || matches!(ops[which], Op::Expire);
            answer == said[which] || (may && *after == Model::Gone)
        });
        all && model == *after
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u64..1_000).prop_map(Op::Write),
        3 => any::<bool>().prop_map(|memory| Op::Pause { memory }),
        3 => any::<bool>().prop_map(|memory| Op::Connect { memory }),
        1 => Just(Op::Resume),
        1 => Just(Op::Extend),
        1 => Just(Op::Expire),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Fork),
        2 => (0u8..3).prop_map(Op::Checkpoint),
        2 => (0u8..3).prop_map(Op::RollBack),
        1 => (0u8..3).prop_map(Op::DeleteCheckpoint),
        1 => Just(Op::Die),
        1 => Just(Op::Kill),
    ]
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![8 => Just(Mood::Works), 1 => Just(Mood::Fails), 1 => Just(Mood::Hangs)]
}

/// The operations of one batch, and the moods of starts and of snapshots.
type Batch = (Vec<Op>, Mood, Mood);

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (proptest::collection::vec(op(), 1..5), mood(), mood());
    proptest::collection::vec(batch, 1..40)
}

async fn run(script: Vec<Batch>, pauses: bool) -> usize {
    let house = Arc::new(House::new());
    let manager = house.manager();
    let mut stage: Option<Stage> = None;
    let mut model = Model::Gone;
    let mut steps = 0;
    for (mut ops, start, work) in script {
        if stage.is_none() || model == Model::Gone {
            let mut spec = spec(600);
            if pauses {
                spec.on_timeout = OnTimeout::Pause { memory: true };
            }
            let created = manager.create(new_id(), spec, false).await.unwrap();
            model = Model::Running(Guest::default(), BTreeMap::new());
            stage = Some(Stage {
                house: house.clone(),
                manager: manager.clone(),
                id: created.view.id,
            });
        }
        let Some(stage) = &stage else { continue };
        let weather = Weather {
            start,
            work,
            pauses,
        };
        if start == Mood::Hangs || work == Mood::Hangs {
            // Only a kill ends what hangs.
            ops.retain(|op| !matches!(op, Op::Fork));
            ops.truncate(3);
            ops.push(Op::Kill);
        }
        if work != Mood::Works && pauses {
            // A pause that fails is tried again half a minute later, longer than this test waits.
            ops.retain(|op| !matches!(op, Op::Expire));
        }
        *house.fake.mood.lock().unwrap() = start;
        *house.fake.work.lock().unwrap() = work;
        let tasks: Vec<_> = ops
            .iter()
            .map(|op| {
                let (stage, op) = (stage.clone(), *op);
                tokio::spawn(async move { stage.act(op).await })
            })
            .collect();
        let mut said = Vec::new();
        for task in tasks {
            let answer = tokio::time::timeout(Duration::from_secs(20), task).await;
            said.push(answer.expect("an answer never came").unwrap());
        }
        let after = stage.rest().await;
        assert!(
            explained(&model, &ops, weather, &said, &after),
            "no order explains this\nbefore: {model:?}\n{weather:?}\nasked: {ops:?}\nsaid: {said:?}\nafter: {after:?}"
        );
        model = after;
        steps += ops.len();
        *house.fake.mood.lock().unwrap() = Mood::Works;
        *house.fake.work.lock().unwrap() = Mood::Works;
    }
    for sandbox in manager.all() {
        manager.kill(&sandbox.id).await.unwrap();
    }
    house.settled(&manager).await;
    steps
}

#[test]
fn operations_at_once_are_as_if_they_came_one_after_the_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 48,
        // Which operation wins is chance: a failure is not found again by a smaller script.
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, rng);
    let steps = std::sync::atomic::AtomicUsize::new(0);
    let tested = runner.run(&(batches(), any::<bool>()), |(script, pauses)| {
        let done = runtime.block_on(run(script, pauses));
        steps.fetch_add(done, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    tested.unwrap();
    let steps = steps.into_inner();
    assert!(steps > 2_000, "{steps} steps");
}
