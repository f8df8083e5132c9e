//! The daemon's own share of a request: routing and answering in the API, deciding in the lifecycle, and forwarding to a
//! sandbox, beside the same request without a proxy.

#![allow(missing_docs, reason = "the macros make public items")]

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sandboxd::bench::{Daemon, KEY, decide_a_life};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Port of the guest that the server stands for.
const PORT: u16 = 8080;

fn lifecycle(c: &mut Criterion) {
    c.bench_function("lifecycle/a whole life, 12 decisions", |b| {
        b.iter(decide_a_life)
    });
}

fn api(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let daemon = runtime.block_on(Daemon::new()).expect("a daemon");
    let id = runtime.block_on(daemon.create()).expect("a sandbox");
    let mut group = c.benchmark_group("api");
    for (name, path, key) in [
        ("no such route", "/nowhere".to_owned(), ""),
        ("health", "/health".to_owned(), ""),
        ("refused key", format!("/sandboxes/{id}"), "e2b_bad"),
        ("one sandbox", format!("/sandboxes/{id}"), KEY),
        ("list", "/v2/sandboxes".to_owned(), KEY),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let request = Request::get(&path).header("x-api-key", key);
                let request = request.body(Body::empty()).expect("a request");
                runtime.block_on(daemon.request(request))
            });
        });
    }
    group.finish();
}

/// A server as in a guest, and how to reach it: directly, and through the daemon.
struct Way {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Way {
    async fn to(address: SocketAddr, host: String) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self { sender, host }
    }

    async fn ask(&mut self) -> usize {
        let request = Request::get("/").header("host", &self.host);
        let request = request.body(Empty::new()).expect("a request");
        // The answer before this one has been read; its connection's task may not have seen that yet.
        self.sender.ready().await.expect("a connection");
        let response = self.sender.send_request(request).await.expect("an answer");
        assert!(response.status().is_success(), "{}", response.status());
        let body = response.into_body().collect().await.expect("a body");
        body.to_bytes().len()
    }
}

fn proxy(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let daemon = runtime.block_on(Daemon::new()).expect("a daemon");
    let (mut direct, mut through) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = listener.local_addr().expect("an address");
        let app = Router::new().route("/", get(async || "answer"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        daemon.open(PORT, server);
        let id = daemon.create().await.expect("a sandbox");
        let proxy = daemon.listen().await.expect("a proxy");
        let host = format!("{PORT}-{id}.sandbox.test");
        (
            Way::to(server, "localhost".to_owned()).await,
            Way::to(proxy, host).await,
        )
    });
    let mut group = c.benchmark_group("proxy");
    for (name, way) in [
        ("request, direct", &mut direct),
        ("request, through the daemon", &mut through),
    ] {
        group.bench_function(name, |b| b.iter(|| runtime.block_on(way.ask())));
    }
    group.finish();
}

criterion_group!(benches, lifecycle, api, proxy);
criterion_main!(benches);
