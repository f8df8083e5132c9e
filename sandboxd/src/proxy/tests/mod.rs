//! The proxy on a real socket, in front of real HTTP servers behind a socket that speaks the vsock convention.

mod ends;
mod passing;
mod routing;
mod waking;

use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::forward::Forwarder;
use super::server::{Service, serve};
use crate::api::tests::Client;
use crate::ids::SandboxId;

/// A daemon with its socket, and one sandbox.
pub struct Rig {
    pub client: Client,
    pub id: SandboxId,
    pub address: SocketAddr,
    stop: CancellationToken,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(json!({})).await
    }

    /// A rig whose sandbox is created with these members.
    pub async fn with(create: Value) -> Self {
        let client = Client::new().await;
        let id = client.create(create).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let service = Service {
            api: crate::api::router(client.app.clone()),
            forwarder: Forwarder::new(client.manager.clone()),
        };
        tokio::spawn(serve(listener, service, stop.clone()));
        Self {
            client,
            id,
            address,
            stop,
        }
    }

    /// Serves an application on a port of the guest.
    pub async fn serve(&self, port: u16, app: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.open(port, address);
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    /// Lets a port of the guest lead to a server.
    pub fn open(&self, port: u16, address: SocketAddr) {
        let mut ports = self.client.house.fake.ports.lock().unwrap();
        ports.insert(port, address);
    }

    /// Host of a port of the sandbox.
    pub fn host(&self, port: u16) -> String {
        format!("{port}-{}.sandbox.test", self.id)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// An HTTP/1.1 connection.
    pub async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 connection without TLS.
    pub async fn http2<B>(&self) -> http2::SendRequest<B>
    where
        B: http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A request on a connection of its own, for its answer's head.
    pub async fn head(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.http1().await.send_request(request).await.unwrap()
    }

    /// A request on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        read(self.head(request).await).await
    }

    /// `GET` on a port of the sandbox.
    pub async fn get(&self, port: u16, path: &str) -> Reply {
        self.send(self.request(Method::GET, port, path)).await
    }

    pub fn request(&self, method: Method, port: u16, path: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.host(port))
            .body(Full::default())
            .unwrap()
    }

    /// How many streams were opened into the sandbox.
    pub fn dials(&self) -> u32 {
        let machine = self.client.house.fake.machine(&self.id).unwrap();
        machine.dials.load(std::sync::atomic::Ordering::Relaxed)
    }
}

pub async fn read(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}
