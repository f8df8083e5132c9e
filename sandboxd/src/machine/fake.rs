//! A machine for API-level tests: no guest, ports are TCP servers of the test.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_protocol::control::Metrics;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::agent::AgentError;
use super::process::ProcessIdentity;
use super::{
    AdoptError, DialError, GuestStream, Hypervisor, Machine, Plan, Stages, StartError, Started,
    Swept,
};
use crate::ids::SandboxId;

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

/// Starts fake machines and remembers them.
#[derive(Default)]
pub struct FakeHypervisor {
    pub mood: Mutex<Mood>,
    pub machines: Mutex<HashMap<SandboxId, Arc<FakeMachine>>>,
    pub plans: Mutex<Vec<Plan>>,
    pub discarded: Mutex<Vec<SandboxId>>,
    /// Where connections to a port of any guest go.
    pub ports: Arc<Mutex<HashMap<u16, SocketAddr>>>,
    next_pid: AtomicI32,
}

/// A fake machine.
pub struct FakeMachine {
    identity: ProcessIdentity,
    ports: Arc<Mutex<HashMap<u16, SocketAddr>>>,
    dead: CancellationToken,
    pub dials: AtomicU32,
}

impl FakeHypervisor {
    /// The machine of a sandbox.
    pub fn machine(&self, id: &SandboxId) -> Option<Arc<FakeMachine>> {
        self.machines.lock().unwrap().get(id).cloned()
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
            let machine = Arc::new(FakeMachine {
                identity: ProcessIdentity {
                    pid: self.next_pid.fetch_add(1, Ordering::Relaxed) + 1,
                    start_time: 7,
                },
                ports: self.ports.clone(),
                dead: CancellationToken::new(),
                dials: AtomicU32::new(0),
            });
            self.machines
                .lock()
                .unwrap()
                .insert(plan.id, machine.clone());
            let ms = Duration::from_millis;
            Ok(Started {
                machine,
                stages: Stages {
                    spawn: ms(1),
                    boot: ms(2),
                    agent: ms(3),
                    configure: ms(4),
                },
            })
        }
        .boxed()
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
                Ok(machine as Arc<dyn Machine>)
            }
        }
        .boxed()
    }

    fn discard(&self, id: SandboxId) -> BoxFuture<'_, ()> {
        async move { self.discarded.lock().unwrap().push(id) }.boxed()
    }

    fn sweep(&self, keep: HashSet<SandboxId>) -> BoxFuture<'_, Swept> {
        async move {
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

impl Machine for FakeMachine {
    fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    fn dial(&self, port: u16) -> BoxFuture<'_, Result<GuestStream, DialError>> {
        async move {
            if self.dead.is_cancelled() {
                return Err(DialError::MachineGone);
            }
            self.dials.fetch_add(1, Ordering::Relaxed);
            let address = self.ports.lock().unwrap().get(&port).copied();
            let address = address.ok_or(DialError::PortClosed)?;
            let stream = tokio::net::TcpStream::connect(address)
                .await
                .map_err(|_| DialError::PortClosed)?;
            Ok(Box::new(stream) as GuestStream)
        }
        .boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Result<Metrics, AgentError>> {
        async move {
            Ok(Metrics {
                ts: crate::moment::Moment::now().as_seconds(),
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

    fn kill(&self) {
        self.dead.cancel();
    }

    fn exited(&self) -> BoxFuture<'_, ()> {
        self.dead.cancelled().boxed()
    }
}
