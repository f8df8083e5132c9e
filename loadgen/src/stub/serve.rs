//! The server.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reports::stats::random::Random;
use tokio::sync::{Semaphore, oneshot};

use super::answer::{Answer, error, not_running};
use super::api::Creating;
use super::world::World;
use super::{Delay, Script, agent, api};
use crate::pace::poisson::unit;

/// Longest body that is taken.
const MAX_BODY: usize = 128 << 20;

/// A stub that runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A create as the server saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// When its request was there, from the server's beginning.
    pub at: Duration,
    /// How long the answer was held back, in truth.
    pub held: Duration,
}

#[derive(Debug)]
struct Inner {
    script: Script,
    began: Instant,
    world: Mutex<World>,
    random: Mutex<Random>,
    served: Mutex<Vec<Served>>,
    slots: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stub {
    /// Starts one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(script: Script, listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            began: Instant::now(),
            world: Mutex::default(),
            random: Mutex::new(Random::new(script.seed)),
            served: Mutex::default(),
            slots: Semaphore::new(script.capacity.unwrap_or(Semaphore::MAX_PERMITS)),
            script,
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("stub".to_owned()).spawn({
            let inner = Arc::clone(&inner);
            move || runtime.block_on(serve(inner, listener, stopped))
        })?;
        Ok(Self {
            address,
            inner,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sandboxes that are there.
    #[must_use]
    pub fn alive(&self) -> usize {
        lock(&self.inner.world).machines.len()
    }

    /// Snapshots that are there.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        lock(&self.inner.world).snapshots.len()
    }

    /// Sandboxes made so far, and the most at once.
    #[must_use]
    pub fn created(&self) -> (u64, usize) {
        let world = lock(&self.inner.world);
        (world.created, world.peak)
    }

    /// All creates so far, in order of their answers.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        lock(&self.inner.served).clone()
    }

    /// Waits until it ends by itself, which it does only when its script says so.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // Nothing is left to tell of a server that panicked: its thread has printed why.
            let _ = thread.join();
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(inner: Arc<Inner>, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let dies = inner.script.dies_after;
    let end = async {
        match dies {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
            () = &mut end => return,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, most likely: others have to close first.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let inner = Arc::clone(&inner);
                async move { Ok::<_, Infallible>(inner.answer(request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).half_close(false);
            // A client that goes away has its reasons.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Inner {
    async fn hold(&self, delay: &Delay) {
        if let Some(stall) = &self.script.stall {
            let wait = stall.wait(self.began.elapsed());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        let drawn = delay.draw(&mut lock(&self.random));
        if !drawn.is_zero() {
            tokio::time::sleep(drawn).await;
        }
    }

    fn chance(&self, share: f64) -> bool {
        share > 0.0 && unit(&mut lock(&self.random)) < share
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let at = self.began.elapsed();
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
        };
        let body = body.to_bytes();
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or("");
        if let Some(id) = head.headers.get("e2b-sandbox-id") {
            let id = id.to_str().unwrap_or("").to_owned();
            return self.inside(&id, &head.method, path, query, body).await;
        }
        let key = head
            .headers
            .get("x-api-key")
            .and_then(|key| key.to_str().ok());
        if self.script.key.is_some() && key != self.script.key.as_deref() {
            return error(StatusCode::UNAUTHORIZED, "the API key is not known");
        }
        if head.method == Method::POST && path == "/v2/sandboxes" {
            return self.create(at, &body).await;
        }
        if head.method == Method::GET {
            self.hold(&Delay::None).await;
        } else {
            self.hold(&self.script.life).await;
        }
        api::call(&mut lock(&self.world), &head.method, path, query, &body)
    }

    async fn create(&self, at: Duration, body: &Bytes) -> Answer {
        let slot = self.slots.acquire().await;
        let waited = self.began.elapsed() - at;
        self.hold(&self.script.create).await;
        drop(slot);
        let mut answer = if self.chance(self.script.refused) {
            error(StatusCode::SERVICE_UNAVAILABLE, "busy")
        } else {
            let creating = Creating {
                silent: self.chance(self.script.silent),
                most: self.script.most,
            };
            api::create(&mut lock(&self.world), body, creating)
        };
        let held = self.began.elapsed() - at;
        lock(&self.served).push(Served { at, held });
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (queue, work, total) = (ms(waited), ms(held.saturating_sub(waited)), ms(held));
        let told = format!("queue;dur={queue:.3}, work;dur={work:.3}, total;dur={total:.3}");
        if let Ok(told) = HeaderValue::from_str(&told) {
            answer.headers_mut().insert("server-timing", told);
        }
        answer
    }

    async fn inside(
        &self,
        id: &str,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Answer {
        let delay = if path == "/execute" {
            &self.script.code
        } else {
            &self.script.agent
        };
        let silent = lock(&self.world)
            .machines
            .get(id)
            .is_some_and(|machine| machine.silent);
        if silent {
            std::future::pending::<()>().await;
        }
        self.hold(delay).await;
        match lock(&self.world).machines.get_mut(id) {
            Some(machine) if !machine.paused => agent::call(machine, method, path, query, body),
            _ => not_running(id),
        }
    }
}
