//! The manager against fake machines: creating, ending, racing, shutting down.

use std::sync::Arc;
use std::time::Duration;

use super::create::{CreateError, Spec};
use super::manager::{Bounds, Manager, Parts};
use super::sandbox::Network;
use super::state::{OnTimeout, Refusal};
use crate::admission::{Admission, Full, Limits, Used};
use crate::egress::{NoNetwork, Policy, Verdict};
use crate::ids::SandboxId;
use crate::machine::Source;
use crate::machine::fake::{FakeHypervisor, Mood};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::templates::Templates;
use crate::templates::tests::template;

/// Everything a manager needs, with fake machines.
pub struct House {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub fake: Arc<FakeHypervisor>,
    pub templates: Arc<Templates>,
}

fn templates() -> Arc<Templates> {
    let mut templates = Templates::default();
    templates.add(template("base", 512));
    templates.add(template("code-interpreter-v1", 1_024));
    Arc::new(templates)
}

impl House {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self {
            dir,
            store,
            fake: Arc::default(),
            templates: templates(),
        }
    }

    /// What another daemon would find: a copy of the store, and the same machines.
    pub fn fork(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = rusqlite::Connection::open(self.dir.path().join(crate::store::FILE)).unwrap();
        let copy = dir.path().join(crate::store::FILE);
        source
            .execute("VACUUM INTO ?", [copy.to_str().unwrap()])
            .unwrap();
        Self {
            store: Store::open(dir.path()).unwrap(),
            dir,
            fake: self.fake.clone(),
            templates: self.templates.clone(),
        }
    }

    /// What the next daemon finds: the same store, the same machines.
    pub async fn reopen(self) -> Self {
        let Self {
            dir,
            store,
            fake,
            templates,
        } = self;
        // Answered when everything before it on the queue is written.
        store.sandboxes().await.unwrap();
        drop(store);
        Self {
            store: Store::open(dir.path()).unwrap(),
            dir,
            fake,
            templates,
        }
    }

    pub fn manager(&self) -> Arc<Manager> {
        Manager::new(Parts {
            store: self.store.clone(),
            hypervisor: self.fake.clone(),
            egress: Arc::new(NoNetwork),
            admission: Admission::new(
                Limits {
                    sandboxes: 8,
                    memory_mib: 8_192,
                },
                None,
            ),
            templates: self.templates.clone(),
            telemetry: Arc::new(Telemetry::default()),
            bounds: Bounds {
                longest_life: 3_600,
                connections: 4,
            },
        })
    }

    /// Waits until nothing is left of any sandbox, and checks it.
    pub async fn settled(&self, manager: &Arc<Manager>) {
        for _ in 0..500 {
            if manager.all().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(manager.all().len(), 0, "a sandbox is wedged");
        assert_eq!(manager.admission().used(), Used::default());
        assert!(self.store.sandboxes().await.unwrap().is_empty());
        assert!(self.store.snapshots().await.unwrap().is_empty());
        assert_eq!(self.fake.alive(), 0, "a machine is left");
        let left = self.fake.snapshots.lock().unwrap().len();
        assert_eq!(left, 0, "a snapshot is left");
    }
}

pub fn spec(timeout: u32) -> Spec {
    Spec {
        template: Arc::new(template("base", 512)),
        source: Source::Template,
        origin: None,
        timeout,
        on_timeout: OnTimeout::Kill,
        auto_resume: false,
        auto_checkpoint: None,
        metadata: [].into(),
        env: [].into(),
        secure: true,
        public: true,
        mask_request_host: None,
        network: Network {
            policy: Policy {
                default: Verdict::Deny,
                allow: vec![],
                deny: vec![],
            },
            allow_internet_access: None,
            wire: None,
        },
    }
}

pub fn new_id() -> SandboxId {
    SandboxId::generate().unwrap()
}

#[tokio::test]
async fn a_sandbox_is_created_found_and_killed() {
    let house = House::new();
    let manager = house.manager();
    let created = manager.create(new_id(), spec(300), false).await.unwrap();
    let id = created.view.id.clone();
    assert!(created.view.facts.access_token.is_some());
    assert!(manager.known(&id).is_some());
    manager.kill(&id).await.unwrap();
    assert!(manager.known(&id).is_none());
    assert_eq!(manager.kill(&id).await, Err(Refusal::Gone));
    assert_eq!(manager.extend(&id, 5).await.err(), Some(Refusal::Gone));
    house.settled(&manager).await;
    assert_eq!(*house.fake.discarded.lock().unwrap(), [id]);
}

#[tokio::test]
async fn time_ends_a_sandbox() {
    let house = House::new();
    let manager = house.manager();
    let id = manager.create(new_id(), spec(1), false).await.unwrap();
    assert!(manager.known(&id.view.id).is_some());
    house.settled(&manager).await;
    let second = manager.create(new_id(), spec(300), false).await.unwrap();
    manager.set_timeout(&second.view.id, 0).await.unwrap();
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_machine_that_dies_takes_its_sandbox_along() {
    let house = House::new();
    let manager = house.manager();
    let created = manager.create(new_id(), spec(300), false).await.unwrap();
    let sandbox = manager.known(&created.view.id).unwrap();
    let cut = sandbox.serving().unwrap().cut;
    crate::machine::Machine::kill(&*house.fake.machine(&created.view.id).unwrap());
    cut.cancelled().await;
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing() {
    let house = House::new();
    let manager = house.manager();
    *house.fake.mood.lock().unwrap() = Mood::Fails;
    let error = manager
        .create(new_id(), spec(300), false)
        .await
        .unwrap_err();
    assert!(matches!(error, CreateError::Start(_)));
    assert!(error.to_string().contains("Kernel panic"));
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_sandbox_unless_it_will_ask_again() {
    let house = House::new();
    let manager = house.manager();
    for kept in [false, true] {
        let create = manager.create(new_id(), spec(300), kept);
        tokio::select! {
            biased;
            _ = create => panic!("created too early"),
            () = tokio::task::yield_now() => {}
        }
        if kept {
            for _ in 0..500 {
                if manager.all().iter().any(|s| s.view().is_some()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let kept = manager.all();
            assert!(manager.known(&kept[0].id).is_some());
            manager.kill(&kept[0].id).await.unwrap();
        }
        house.settled(&manager).await;
    }
}

#[tokio::test]
async fn limits_are_kept_and_a_kill_makes_room_at_once() {
    let house = House::new();
    let manager = house.manager();
    let mut ids = Vec::new();
    for _ in 0..8 {
        let created = manager.create(new_id(), spec(300), false).await.unwrap();
        ids.push(created.view.id);
    }
    let full = manager
        .create(new_id(), spec(300), false)
        .await
        .unwrap_err();
    assert!(matches!(full, CreateError::Full(Full::Sandboxes(8))));
    manager.kill(&ids[0]).await.unwrap();
    manager.create(new_id(), spec(300), false).await.unwrap();
    manager.shut_down(false, Duration::from_secs(10)).await;
    house.settled(&manager).await;
}

#[tokio::test]
async fn a_shutdown_ends_even_what_is_still_starting() {
    let house = House::new();
    let manager = house.manager();
    manager.create(new_id(), spec(300), false).await.unwrap();
    *house.fake.mood.lock().unwrap() = Mood::Hangs;
    let starting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.create(new_id(), spec(300), false).await }
    });
    while house.fake.plans.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    manager.shut_down(false, Duration::from_secs(10)).await;
    assert!(matches!(starting.await.unwrap(), Err(CreateError::Aborted)));
    house.settled(&manager).await;
    let refused = manager.create(new_id(), spec(300), false).await;
    assert!(matches!(refused, Err(CreateError::ShuttingDown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_creates_kills_and_timeouts_leave_nothing() {
    let house = House::new();
    let manager = house.manager();
    let mut racers = Vec::new();
    for n in 0..60u32 {
        let manager = manager.clone();
        racers.push(tokio::spawn(async move {
            let Ok(created) = manager.create(new_id(), spec(1 + n % 2), false).await else {
                return;
            };
            let id = created.view.id;
            let kill = manager.kill(&id);
            let shorten = manager.set_timeout(&id, n % 3);
            let extend = manager.extend(&id, n % 5);
            let _ = tokio::join!(extend, shorten, kill);
        }));
        if n % 4 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for racer in racers {
        racer.await.unwrap();
    }
    house.settled(&manager).await;
}
