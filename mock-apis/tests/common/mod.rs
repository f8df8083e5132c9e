//! A server in this process, and a client that sees every byte.
#![allow(dead_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use mock_apis::engine::Engine;
use mock_apis::scenario;
use mock_apis::server::{Identity, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn scenarios() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
}

/// Believes what this machine says in the header `x-sandbox-id`.
pub fn trusting() -> Identity {
    Identity {
        header: "x-sandbox-id".into(),
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        proxy: false,
    }
}

pub async fn serve(text: &str, identity: Identity) -> Server {
    let scenario = scenario::from_text(text).unwrap();
    Server::start(
        Engine::new(scenario, scenarios()).unwrap(),
        FREE,
        FREE,
        identity,
    )
    .await
    .unwrap()
}

/// What came back, and how it ended.
#[derive(Debug)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// `None`: closed in order; else the error.
    pub error: Option<std::io::ErrorKind>,
    pub took: Duration,
}

impl Seen {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn status(&self) -> Option<u16> {
        self.text()
            .strip_prefix("HTTP/1.1 ")?
            .get(..3)?
            .parse()
            .ok()
    }

    pub fn body(&self) -> String {
        self.text()
            .split_once("\r\n\r\n")
            .map_or(String::new(), |(_, body)| body.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head = text.split_once("\r\n\r\n")?.0;
        head.lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }
}

pub async fn ask(address: SocketAddr, head: &str, body: &str) -> Seen {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes));
    let error = read
        .await
        .expect("no end within 20 s")
        .err()
        .map(|error| error.kind());
    Seen {
        bytes,
        error,
        took: began.elapsed(),
    }
}

pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Seen {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: api.mock.internal{headers}"),
        "",
    )
    .await
}
