//! The network's edge: sockets, clocks and locks around the engine and the journal.
//!
//! ```text
//! accept ─► HTTP stack reads a request ─► decide (lock, short) ─► latency ─┬─► reply by the HTTP stack, connection goes on
//!                                                                          └─► script: the connection is taken from the stack and played
//! ```
//!
//! Who calls is decided by the connection. A header with a name, of the connection or of a request, is believed only from a
//! front that was named as trusted.

mod admin;
pub(crate) mod call;
mod local;
mod play;
mod proxy_header;

pub(crate) use call::response;
pub use local::LocalError;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::engine::Engine;
use crate::fault::Step;
use crate::journal::{End, How, Journal, Place};
use crate::mcp::Mcp;

/// Most connections at once; more are closed as they come.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Largest body of a request, in bytes: 1 MiB.
pub const MAX_BODY: usize = 1 << 20;
/// Longest time for the headers of a request, and again for its body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for the header of a connection.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is believed about callers.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Header with the caller's name, in small letters.
    pub header: String,
    /// Addresses of fronts whose header is believed.
    pub trusted: Vec<IpNet>,
    /// Whether trusted fronts begin each connection with a PROXY header (version 2), as sandboxd does; it counts, and the
    /// headers of requests, which came from the guest, do not.
    pub proxy: bool,
}

impl Identity {
    /// The caller of a connection from `peer` that says it is `claimed`.
    pub fn caller(&self, peer: IpAddr, claimed: Option<&str>) -> String {
        match claimed {
            Some(name) if self.trusts(peer) && !name.is_empty() && name.len() <= 128 => {
                name.to_owned()
            }
            _ => format!("peer:{peer}"),
        }
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

/// Who calls through a connection, as far as it says by itself.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: IpAddr,
    /// What its PROXY header says.
    told: Option<String>,
}

impl Peer {
    /// Reads what a connection says by itself. Nothing when it had to say something and did not.
    async fn of(stream: &mut TcpStream, address: IpAddr, identity: &Identity) -> Option<Self> {
        let told = if identity.proxy && identity.trusts(address) {
            let header = tokio::time::timeout(PROXY_TIMEOUT, proxy_header::read(stream));
            header.await.ok()?.ok()?
        } else {
            None
        };
        Some(Self { address, told })
    }

    /// The caller of a request with these headers.
    pub(crate) fn caller(&self, shared: &Shared, headers: &BTreeMap<String, String>) -> String {
        let identity = &shared.identity;
        let claimed = headers.get(&identity.header).map(String::as_str);
        match &self.told {
            Some(name) => name.clone(),
            None => identity.caller(self.address, claimed.filter(|_| !identity.proxy)),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    identity: Identity,
    secrets: BTreeMap<String, String>,
    connections: Semaphore,
    stopped: watch::Receiver<bool>,
}

/// The engine, the journal, and when they were begun.
#[derive(Debug)]
pub struct State {
    /// Decides.
    pub engine: Engine,
    /// Remembers.
    pub journal: Journal,
    /// Start of the scenario's time.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
}

/// A server at work; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// What its connections share.
    pub shared: Arc<Shared>,
    /// Address at which the host name decides about the service.
    pub front: SocketAddr,
    /// Address of each service alone.
    pub services: BTreeMap<String, SocketAddr>,
    /// Address of the admin API.
    pub admin: SocketAddr,
    /// Address of the MCP server; its path is [`crate::mcp::PATH`].
    pub mcp: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Begins to serve at `front` (and at a free port of the same address for each service, and for MCP); the admin API is at `admin`.
    pub async fn start(
        engine: Engine,
        front: SocketAddr,
        admin: SocketAddr,
        identity: Identity,
    ) -> std::io::Result<Self> {
        let mcp = SocketAddr::new(front.ip(), 0);
        Self::start_with_mcp(engine, front, admin, mcp, identity).await
    }

    /// The same with the MCP server at `mcp`.
    pub async fn start_with_mcp(
        engine: Engine,
        front: SocketAddr,
        admin: SocketAddr,
        mcp: SocketAddr,
        identity: Identity,
    ) -> std::io::Result<Self> {
        let tools = Arc::new(Mcp::new(&engine));
        let names: Vec<String> = engine
            .scenario
            .services
            .iter()
            .map(|service| service.name.clone())
            .collect();
        let secrets = crate::verdict::planted(&engine.scenario);
        let (stop, stopped) = watch::channel(false);
        let state = State {
            engine,
            journal: Journal::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            identity,
            secrets,
            connections: Semaphore::new(MAX_CONNECTIONS),
            stopped,
        });
        let listener = listen(front)?;
        let front = listener.local_addr()?;
        let door = Door::Front(Arc::clone(&tools));
        tokio::spawn(accept(Arc::clone(&shared), listener, door));
        let mut services = BTreeMap::new();
        for (index, name) in names.into_iter().enumerate() {
            let listener = listen(SocketAddr::new(front.ip(), 0))?;
            services.insert(name, listener.local_addr()?);
            let door = Door::Service(index);
            tokio::spawn(accept(Arc::clone(&shared), listener, door));
        }
        let listener = listen(mcp)?;
        let mcp = listener.local_addr()?;
        tokio::spawn(accept(Arc::clone(&shared), listener, Door::Mcp(tools)));
        let listener = listen(admin)?;
        let admin = listener.local_addr()?;
        tokio::spawn(admin::serve(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            front,
            services,
            admin,
            mcp,
            stop,
        })
    }
}

/// Listens so that as many callers as may be served may also wait: what the kernel turns away comes back a second later,
/// which would look like latency of the mock's.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl Shared {
    /// The state. What is done under this lock neither waits nor panics; a poisoned one is used as it is.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets calls, callers and time.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.engine.reset();
        state.journal.reset();
        (state.started, state.started_at) = (Instant::now(), SystemTime::now());
    }

    fn end(&self, place: Option<Place>, how: How) {
        if let Some(place) = place {
            let mut state = self.lock();
            let at_ms = millis(state.started.elapsed());
            state.journal.end(place, End { how, at_ms });
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a connection comes in by.
#[derive(Debug, Clone)]
enum Door {
    /// The address at which the host name decides about the service.
    Front(Arc<Mcp>),
    /// The address of this service.
    Service(usize),
    /// The MCP server.
    Mcp(Arc<Mcp>),
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, door: Door) {
    let mut stopped = shared.stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, door) = (Arc::clone(&shared), door.clone());
                tokio::spawn(async move {
                    // Closed at once rather than left waiting: whoever holds thousands gets no more.
                    if let Ok(_permit) = shared.connections.try_acquire() {
                        connection(&shared, stream, peer, door).await;
                    }
                });
            }
            // Out of descriptors, most likely: those in use have to end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Whether a request at the front is for the MCP server: the host name's first label says so, and is no service's.
fn asks_for_mcp<B>(shared: &Shared, request: &http::Request<B>) -> bool {
    let host = request.headers().get(http::header::HOST);
    let label = host.and_then(|host| Some(call::label(host.to_str().ok()?)));
    label == Some(crate::mcp::NAME) && shared.lock().engine.service(crate::mcp::NAME).is_none()
}

/// A script that takes the connection, and the entry that it belongs to.
pub(crate) type Script = (Vec<Step>, Option<Place>);

async fn connection(shared: &Arc<Shared>, mut stream: TcpStream, peer: SocketAddr, door: Door) {
    let _ = stream.set_nodelay(true);
    let Some(peer) = Peer::of(&mut stream, peer.ip(), &shared.identity).await else {
        return;
    };
    let (scripts, mut taken) = mpsc::channel::<Script>(1);
    let handler = {
        let shared = Arc::clone(shared);
        service_fn(move |request| {
            let (shared, scripts, door) = (Arc::clone(&shared), scripts.clone(), door.clone());
            let peer = peer.clone();
            async move {
                let (mcp, service) = match door {
                    Door::Front(mcp) if asks_for_mcp(&shared, &request) => (Some(mcp), None),
                    Door::Front(_) => (None, None),
                    Door::Service(it) => (None, Some(it)),
                    Door::Mcp(mcp) => (Some(mcp), None),
                };
                match mcp {
                    // In a box: connections of HTTP shall not be as large as these.
                    Some(mcp) => Box::pin(mcp.answer(shared, request, peer, scripts)).await,
                    None => call::handle(shared, request, peer, service, scripts).await,
                }
            }
        })
    };
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler);
    let mut stopped = shared.stopped.clone();
    let script = tokio::select! {
        script = taken.recv() => script,
        _ = &mut http => None,
        _ = stopped.changed() => None,
    };
    if let Some((steps, place)) = script {
        let mut stream = http.into_parts().io.into_inner();
        let how = tokio::select! {
            how = play::play(&mut stream, &steps) => how,
            _ = stopped.changed() => How::Played,
        };
        shared.end(place, how);
    }
}
