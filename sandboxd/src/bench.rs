//! A daemon without machines, for benchmarks: the API and the proxy as they are, over the fake machines of the tests.
//!
//! Only compiled with the feature `bench`, which no shipped program has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admission::{Admission, Limits};
use crate::api::auth::KeyRing;
use crate::api::{App, Shared, router};
use crate::egress::{NoNetwork, Verdict};
use crate::ids::secret_hash;
use crate::lifecycle::manager::{Bounds, Manager, Parts};
use crate::lifecycle::state::{self, Event, Life, OnTimeout, Reason};
use crate::machine::fake::FakeHypervisor;
use crate::moment::Moment;
use crate::proxy::forward::Forwarder;
use crate::proxy::server::{Service, serve};
use crate::store::Store;
use crate::store::keys::ApiKey;
use crate::telemetry::Telemetry;
use crate::templates::{Template, Templates};

/// The key that the daemon takes.
pub const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// Why it did not come up: the host's or a request's failure, as it was said.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The daemon.
pub struct Daemon {
    router: Router,
    app: App,
    machines: Arc<FakeHypervisor>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Daemon {
    /// With one template, `base`, and one key.
    ///
    /// # Errors
    /// When the store can't be made.
    pub async fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let store = Store::open(dir.path())?;
        let key = ApiKey {
            id: "bench".to_owned(),
            name: "bench".to_owned(),
            hash: secret_hash(KEY),
            mask: "e2b_01…67".to_owned(),
            created_at: Moment::now(),
            revoked_at: None,
        };
        store.add_key(key).await?;
        let mut templates = Templates::default();
        templates.add(template());
        let templates = Arc::new(templates);
        let machines = Arc::<FakeHypervisor>::default();
        let limits = Limits {
            sandboxes: 4096,
            memory_mib: u64::from(u32::MAX),
        };
        let manager = Manager::new(Parts {
            store: store.clone(),
            hypervisor: machines.clone(),
            egress: Arc::new(NoNetwork),
            admission: Admission::new(limits, None),
            templates: templates.clone(),
            telemetry: Arc::new(Telemetry::default()),
            bounds: Bounds {
                longest_life: 86_400,
                connections: 64,
            },
        });
        let app = App::new(Shared {
            manager,
            templates,
            keys: KeyRing::new(store),
            domain: None,
            services: crate::services::Services::default(),
            default_egress: Verdict::Deny,
        });
        Ok(Self {
            router: router(app.clone()),
            app,
            machines,
            stop: CancellationToken::new(),
            _dir: dir,
        })
    }

    /// One request to the API, without a socket.
    pub async fn request(&self, request: Request<Body>) -> Response<Body> {
        let answered = self.router.clone().oneshot(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// Creates a sandbox of `base`; gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(&self) -> Result<String, Failure> {
        let request = Request::post("/v2/sandboxes")
            .header("x-api-key", KEY)
            .body(Body::from(r#"{"templateID":"base"}"#))?;
        let body = self.request(request).await.into_body();
        let bytes = body.collect().await?.to_bytes();
        let created: serde_json::Value = serde_json::from_slice(&bytes)?;
        let id = created["sandboxID"].as_str();
        Ok(id
            .ok_or_else(|| String::from_utf8_lossy(&bytes).into_owned())?
            .to_owned())
    }

    /// Lets a port of every guest lead to a server.
    pub fn open(&self, port: u16, server: SocketAddr) {
        let mut ports = self
            .machines
            .ports
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        ports.insert(port, server);
    }

    /// Serves API and sandboxes on a port of the loopback, as the daemon does.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn listen(&self) -> Result<SocketAddr, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Service {
            api: self.router.clone(),
            forwarder: Forwarder::new(self.app.manager.clone()),
        };
        tokio::spawn(serve(listener, service, self.stop.clone()));
        Ok(address)
    }
}

fn template() -> Template {
    Template {
        id: "base".to_owned(),
        aliases: vec!["base".to_owned()],
        rootfs: "/templates/base/rootfs.erofs".into(),
        vcpus: 2,
        memory_mib: 512,
        disk_mib: 10_240,
        user: "user".to_owned(),
        workdir: "/home/user".to_owned(),
        env: BTreeMap::new(),
        code_interpreter: false,
        build_id: uuid::Uuid::from_u128(1),
        built_at: Moment::from_micros(1_700_000_000_000_000),
    }
}

/// Takes one sandbox's life through create, snapshot, pause, resume, a longer deadline and its end; gives how many things
/// it said were to be done.
#[must_use]
pub fn decide_a_life() -> usize {
    let at = |seconds: i64| Moment::from_micros(seconds * 1_000_000);
    let mut life = Life::new(state::Limits {
        timeout: 300,
        longest: 86_400,
        on_timeout: OnTimeout::Kill,
    });
    let events = [
        Event::Booted(at(1)),
        Event::Capture,
        Event::Done(at(2)),
        Event::Pause,
        Event::Paused(at(3)),
        Event::Resume(300),
        Event::Booted(at(4)),
        Event::Extend(at(5), 600),
        Event::Tick(at(6)),
        Event::Kill(Reason::Request),
        Event::KillSent,
        Event::Released,
    ];
    let steps = events.into_iter().map(|event| life.step(event));
    steps.map(|step| step.map_or(0, |todo| todo.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_serves_what_the_benchmarks_ask_for() {
        let daemon = Daemon::new().await.unwrap();
        let id = daemon.create().await.unwrap();
        let request = Request::get(format!("/sandboxes/{id}"))
            .header("x-api-key", KEY)
            .body(Body::empty())
            .unwrap();
        assert_eq!(daemon.request(request).await.status(), 200);
        assert!(decide_a_life() >= 10, "{}", decide_a_life());
    }
}
