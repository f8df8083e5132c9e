//! A machine for API-level tests: no guest, ports are TCP servers of the test, reached over a Unix socket that speaks
//! the conventions of the vsock device and of the agent.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use agent_protocol::control::Metrics;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, AgentError};
use super::control::ControlError;
use super::process::ProcessIdentity;
use super::stages::{Stage, Stages};
use super::{
    AdoptError, After, DialError, GuestStream, Hypervisor, Machine, Plan, RollbackError,
    SnapshotError, SnapshotOrder, Source, StartError, Started, Swept, Warmed, Written,
};
use crate::egress::Tap;
use crate::ids::{SandboxId, SnapshotId};
use crate::templates::Template;

/// What a fake start does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It works at once.
    #[default]
    Works,
    /// It never comes to an end.
    Hangs,
    /// The machine dies.
    Fails,
}

/// What a fake guest holds, so that tests can tell what it went on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Gone after a boot.
    pub memory: u64,
    /// Kept by every snapshot.
    pub disk: u64,
}

/// A fake snapshot.
#[derive(Clone, Debug)]
pub struct FakeSnapshot {
    /// What was ordered.
    pub order: SnapshotOrder,
    /// What the guest held.
    pub guest: Guest,
}

/// Starts fake machines and remembers them.
#[derive(Default)]
pub struct FakeHypervisor {
    /// How starts go.
    pub mood: Mutex<Mood>,
    /// How snapshots and rollbacks go.
    pub work: Arc<Mutex<Mood>>,
    pub machines: Mutex<HashMap<SandboxId, Arc<FakeMachine>>>,
    pub plans: Mutex<Vec<Plan>>,
    pub discarded: Mutex<Vec<SandboxId>>,
    /// Snapshots that exist.
    pub snapshots: Snapshots,
    /// Where connections to a port of any guest go.
    pub ports: Ports,
    next_pid: AtomicI32,
    folder: OnceLock<tempfile::TempDir>,
}

type Snapshots = Arc<Mutex<HashMap<SnapshotId, FakeSnapshot>>>;

type Ports = Arc<Mutex<HashMap<u16, SocketAddr>>>;

/// A fake machine.
pub struct FakeMachine {
    identity: ProcessIdentity,
    agent: Agent,
    dead: CancellationToken,
    snapshots: Snapshots,
    work: Arc<Mutex<Mood>>,
    /// What its guest holds.
    pub guest: Mutex<Guest>,
    /// Whether it stands still after a snapshot.
    pub stopped: AtomicBool,
    /// Whether the agent keeps still when it is asked to.
    pub unresponsive: AtomicBool,
    /// The snapshot that the machine last went back to or began from.
    pub at: Mutex<Option<SnapshotId>>,
    pub dials: AtomicU32,
    /// How often it was asked for its resource use.
    pub asked: AtomicU32,
    /// Processor time that it says it has used.
    pub processor_time: Mutex<Duration>,
}

impl FakeHypervisor {
    /// The machine of a sandbox.
    pub fn machine(&self, id: &SandboxId) -> Option<Arc<FakeMachine>> {
        self.machines.lock().unwrap().get(id).cloned()
    }

    /// Starts the guest side of a machine's vsock socket; it goes with the machine.
    fn guest(&self, id: &SandboxId, dead: CancellationToken) -> PathBuf {
        let folder = self.folder.get_or_init(|| tempfile::tempdir().unwrap());
        let path = folder.path().join(id.as_str());
        // Left where a test has dropped the runtime that served it.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let ports = self.ports.clone();
        let socket = path.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = dead.cancelled() => break,
                };
                let (ports, dead) = (ports.clone(), dead.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        served = guest_connection(stream, ports) => drop(served),
                        () = dead.cancelled() => {}
                    }
                });
            }
            let _ = std::fs::remove_file(socket);
        });
        path
    }

    /// Machines that live.
    pub fn alive(&self) -> usize {
        let machines = self.machines.lock().unwrap();
        machines.values().filter(|m| !m.dead.is_cancelled()).count()
    }
}

impl Hypervisor for FakeHypervisor {
    fn start(&self, plan: Plan) -> BoxFuture<'_, Result<Started, StartError>> {
        async move {
            let mood = *self.mood.lock().unwrap();
            self.plans.lock().unwrap().push(plan.clone());
            tokio::task::yield_now().await;
            match mood {
                Mood::Works => {}
                Mood::Hangs => std::future::pending::<()>().await,
                Mood::Fails => {
                    return Err(StartError::Died {
                        last_words: "Kernel panic".to_owned(),
                    });
                }
            }
            let missing = |id: &SnapshotId| StartError::Died {
                last_words: format!("there is no snapshot {id}, or not with memory"),
            };
            let found = |id: &SnapshotId| self.snapshots.lock().unwrap().get(id).cloned();
            let (at, guest) = match &plan.source {
                Source::Template => (None, Guest::default()),
                Source::Memory(id) => {
                    let snapshot = found(id).filter(|s| s.order.memory);
                    let snapshot = snapshot.ok_or_else(|| missing(id))?;
                    (Some(id.clone()), snapshot.guest)
                }
                Source::Disk(id) => {
                    let snapshot = found(id).ok_or_else(|| missing(id))?;
                    let Guest { disk, .. } = snapshot.guest;
                    (Some(id.clone()), Guest { memory: 0, disk })
                }
            };
            let dead = CancellationToken::new();
            let machine = Arc::new(FakeMachine {
                identity: ProcessIdentity {
                    pid: self.next_pid.fetch_add(1, Ordering::Relaxed) + 1,
                    start_time: 7,
                },
                agent: Agent::new(&self.guest(&plan.id, dead.clone())),
                dead,
                snapshots: self.snapshots.clone(),
                work: self.work.clone(),
                guest: Mutex::new(guest),
                stopped: AtomicBool::new(false),
                unresponsive: AtomicBool::new(false),
                at: Mutex::new(at),
                dials: AtomicU32::new(0),
                asked: AtomicU32::new(0),
                processor_time: Mutex::default(),
            });
            self.machines
                .lock()
                .unwrap()
                .insert(plan.id, machine.clone());
            let mut stages = Stages::default();
            let took = [Stage::Pool, Stage::Resume, Stage::Agent, Stage::Configure];
            for (stage, ms) in took.into_iter().zip(1..) {
                stages.add(stage, Duration::from_millis(ms));
            }
            Ok(Started { machine, stages })
        }
        .boxed()
    }

    fn warm(&self, _: Arc<Template>, _: Option<Tap>) -> BoxFuture<'_, Result<Warmed, StartError>> {
        async { Ok(Warmed::Found) }.boxed()
    }

    fn adopt(
        &self,
        id: SandboxId,
        identity: ProcessIdentity,
    ) -> BoxFuture<'_, Result<Arc<dyn Machine>, AdoptError>> {
        async move {
            let machine = self.machine(&id).ok_or(AdoptError::Gone)?;
            if machine.dead.is_cancelled() {
                Err(AdoptError::Gone)
            } else if machine.identity != identity {
                Err(AdoptError::Reused)
            } else {
                machine.stopped.store(false, Ordering::Relaxed);
                Ok(machine as Arc<dyn Machine>)
            }
        }
        .boxed()
    }

    fn discard(&self, id: SandboxId) -> BoxFuture<'_, ()> {
        async move { self.discarded.lock().unwrap().push(id) }.boxed()
    }

    fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.snapshots.lock().unwrap().contains_key(id)
    }

    fn discard_snapshot(&self, id: SnapshotId) -> BoxFuture<'_, ()> {
        async move { drop(self.snapshots.lock().unwrap().remove(&id)) }.boxed()
    }

    fn sweep(
        &self,
        keep: HashSet<SandboxId>,
        snapshots: HashSet<SnapshotId>,
    ) -> BoxFuture<'_, Swept> {
        async move {
            self.snapshots
                .lock()
                .unwrap()
                .retain(|id, _| snapshots.contains(id));
            let machines = self.machines.lock().unwrap();
            let mut swept = Swept::default();
            for (id, machine) in machines.iter() {
                if !keep.contains(id) && !machine.dead.is_cancelled() {
                    machine.kill();
                    swept.processes += 1;
                }
            }
            swept
        }
        .boxed()
    }
}

impl FakeMachine {
    /// Does something in the guest; `false` when the guest does not run.
    pub fn write(&self, value: u64) -> bool {
        let mut guest = self.guest.lock().unwrap();
        let runs = !self.stopped.load(Ordering::Relaxed) && !self.dead.is_cancelled();
        if runs {
            *guest = Guest {
                memory: value,
                disk: value,
            };
        }
        runs
    }

    /// Whether a snapshot or rollback goes well; one that hangs does so until the machine is dead.
    async fn works(&self) -> bool {
        let mood = *self.work.lock().unwrap();
        match mood {
            Mood::Works => true,
            Mood::Fails => false,
            Mood::Hangs => {
                self.dead.cancelled().await;
                false
            }
        }
    }
}

impl Machine for FakeMachine {
    fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    fn dial(&self, port: u16) -> BoxFuture<'_, Result<GuestStream, DialError>> {
        async move {
            self.dials.fetch_add(1, Ordering::Relaxed);
            let stream = self.agent.dial(port).await?;
            Ok(Box::new(stream) as GuestStream)
        }
        .boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Result<Metrics, AgentError>> {
        async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(Metrics {
                ts: crate::moment::Moment::now().as_millis() / 1_000,
                cpu_count: 2,
                cpu_used_pct: 12.5,
                mem_total: 512 << 20,
                mem_used: 64 << 20,
                mem_cache: 32 << 20,
                mem_total_mib: 512,
                mem_used_mib: 64,
                disk_used: 1 << 20,
                disk_total: 10 << 30,
            })
        }
        .boxed()
    }

    fn processor_time(&self) -> Option<Duration> {
        Some(*self.processor_time.lock().unwrap())
    }

    fn snapshot(&self, order: SnapshotOrder) -> BoxFuture<'_, Result<Written, SnapshotError>> {
        async move {
            tokio::task::yield_now().await;
            if self.unresponsive.load(Ordering::Relaxed) {
                let why = AgentError::TimedOut(Duration::from_secs(1));
                return Err(SnapshotError::Unresponsive(why));
            }
            if !self.works().await {
                return Err(SnapshotError::Control(ControlError::Closed("snapshot")));
            }
            if self.dead.is_cancelled() {
                return Err(SnapshotError::Lost("it is dead".to_owned()));
            }
            let held = self.guest.lock().unwrap();
            match order.after {
                After::GoOn => *self.at.lock().unwrap() = Some(order.id.clone()),
                After::Stop => self.stopped.store(true, Ordering::Relaxed),
            }
            let guest = *held;
            self.snapshots
                .lock()
                .unwrap()
                .insert(order.id.clone(), FakeSnapshot { order, guest });
            Ok(Written {
                bytes: 4096,
                stages: vec![("memory".to_owned(), Duration::from_millis(1))],
            })
        }
        .boxed()
    }

    fn roll_back(&self, to: SnapshotId, _: Plan) -> BoxFuture<'_, Result<Written, RollbackError>> {
        async move {
            tokio::task::yield_now().await;
            if self.dead.is_cancelled() {
                return Err(RollbackError::Lost("it is dead".to_owned()));
            }
            if !self.works().await {
                return Err(RollbackError::Refused(ControlError::Closed("snapshot")));
            }
            let snapshot = self.snapshots.lock().unwrap().get(&to).cloned();
            let Some(snapshot) = snapshot else {
                return Err(RollbackError::Refused(ControlError::Closed("snapshot")));
            };
            *self.guest.lock().unwrap() = snapshot.guest;
            *self.at.lock().unwrap() = Some(to);
            Ok(Written::default())
        }
        .boxed()
    }

    fn kill(&self) {
        self.dead.cancel();
    }

    fn exited(&self) -> BoxFuture<'_, ()> {
        self.dead.cancelled().boxed()
    }
}

/// One connection of a fake guest: both opening lines, then bytes to and from the test's server.
async fn guest_connection(stream: UnixStream, ports: Ports) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert_eq!(line, "CONNECT 1024\n");
    stream.write_all(b"OK 1073741824\n").await?;
    line.clear();
    stream.read_line(&mut line).await?;
    let port = line
        .trim_end()
        .strip_prefix("TCP ")
        .unwrap()
        .parse()
        .unwrap();
    let address = ports.lock().unwrap().get(&port).copied();
    let server = match address {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        return stream.write_all(b"ERR refused\n").await;
    };
    stream.write_all(b"OK\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}
