//! `mock-apis record`, the shipped program: what it writes is valid, holds no secret, and answers as the API did.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Seen, ask, get, serve};
use mock_apis::server::{Identity, Server};
use rustix::process::{Pid, Signal, kill_process};

const API: &str = "
version: 1
name: real
services:
  - name: api
    routes:
      - operation: read
        method: GET
        path: /things/{id}
        reply: {status: 200, headers: {etag: '\"1\"', x-trace: abc, set-cookie: s=cookie-secret}, body: {name: Ünïcode, price: 1.5}}
        rules: [{when: {query: {missing: '1'}}, reply: {status: 404, headers: {content-type: application/problem+json}, body: {title: none}}}]
      - operation: poll
        method: GET
        path: /job
        reply: {status: 200, body: {state: done}}
        rules: [{schedule: {first: 2}, reply: {status: 202, headers: {retry-after: '1'}, body: {state: busy}}}]
      - operation: make
        method: POST
        path: /echo
        reply: {status: 201, echo: true}
      - operation: remove
        method: DELETE
        path: /things/{id}
        reply: {status: 204}
";

struct Recorder {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    address: SocketAddr,
}

impl Recorder {
    fn start(to: &str, out: &Path, more: &[&str]) -> Self {
        let mut child = command(to, out, more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        let address = said.strip_prefix("recording http://").unwrap();
        let address = address.split(' ').next().unwrap().parse().unwrap();
        Self {
            child,
            lines,
            address,
        }
    }

    /// What it says at its end by Ctrl-C.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let said: Vec<_> = self.lines.by_ref().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        said.join("\n")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(to: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-apis"));
    command.args(["record", "--listen", "127.0.0.1:0", "--to", to, "--out"]);
    command.arg(out).args(more);
    command
}

fn validate(out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-apis"));
    command.arg("validate").arg(out).output().unwrap()
}

/// What a client acts on.
fn shown(
    seen: &Seen,
) -> (
    Option<u16>,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
) {
    let header = |name| seen.header(name);
    (
        seen.status(),
        header("content-type"),
        header("etag"),
        header("retry-after"),
        seen.body(),
    )
}

async fn calls(address: SocketAddr) -> Vec<Seen> {
    let secrets = "\r\nauthorization: Bearer bearer-secret\r\ncookie: a=jar-secret";
    let mut all = Vec::new();
    for path in [
        "/things/LH-100",
        "/things/a%20b?missing=1",
        "/things/a%20b",
        "/job",
        "/job",
        "/job",
        "/nothing",
    ] {
        all.push(get(address, path, secrets).await);
    }
    let remove = "DELETE /things/LH-100 HTTP/1.1\r\nhost: api";
    all.push(ask(address, remove, "").await);
    all
}

async fn replay(out: &Path) -> Server {
    let text = std::fs::read_to_string(out).unwrap();
    serve(&text, Identity::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_answers_as_the_api_did() {
    let real = serve(API, Identity::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scenario.yaml");
    let recorder = Recorder::start(&format!("http://{}", real.services["api"]), &out, &[]);
    let first: Vec<_> = calls(recorder.address).await.iter().map(shown).collect();
    assert_eq!(first[0].0, Some(200));
    assert_eq!(first[3].3.as_deref(), Some("1"));
    let said = recorder.end();
    assert!(said.contains("8 calls, 5 routes"), "{said}");
    let valid = validate(&out);
    assert!(valid.status.success(), "{valid:?}");
    drop(real);
    let replayed = replay(&out).await;
    let second: Vec<_> = calls(replayed.services["api"])
        .await
        .iter()
        .map(shown)
        .collect();
    assert_eq!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_call_is_written() {
    let real = serve(API, Identity::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scenario.yaml");
    let recorder = Recorder::start(&format!("http://{}", real.services["api"]), &out, &[]);
    let head = "POST /echo?api_key=query-secret&page=2 HTTP/1.1\r\nhost: api\r\nauthorization: Bearer bearer-secret\r\ncookie: a=jar-secret\r\nx-api-key: key-secret\r\ncontent-type: application/json";
    let seen = ask(recorder.address, head, "{\"say\": \"bearer-secret\"}").await;
    assert!(
        seen.body().contains("bearer-secret"),
        "the client sees what the API says"
    );
    get(
        recorder.address,
        "/things/1",
        "\r\nauthorization: Bearer bearer-secret",
    )
    .await;
    recorder.end();
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(!text.contains("-secret"), "{text}");
    assert!(
        text.contains("REMOVED") && text.contains("\"page\""),
        "{text}"
    );
    assert!(!text.contains("x-trace"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_outlives_a_kill_and_replaces_nothing_unasked() {
    let real = serve(API, Identity::default()).await;
    let to = format!("http://{}", real.services["api"]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scenario.yaml");
    let mut recorder = Recorder::start(&to, &out, &[]);
    get(recorder.address, "/job", "").await;
    let began = Instant::now();
    while !out.exists() && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    recorder.child.kill().unwrap();
    let before = std::fs::read_to_string(&out).unwrap();
    assert!(validate(&out).status.success());

    let refused = command(&to, &out, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said.contains("is there already; --force replaces it"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&out).unwrap(), before);

    let recorder = Recorder::start(&to, &out, &["--force", "--service", "jobs"]);
    get(recorder.address, "/things/1", "").await;
    recorder.end();
    let after = std::fs::read_to_string(&out).unwrap();
    assert!(
        after.contains("\"jobs\"") && !after.contains("/job\""),
        "{after}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_not_there_is_told_to_the_client_and_no_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scenario.yaml");
    // A port that was free a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let recorder = Recorder::start(&format!("http://{gone}"), &out, &[]);
    let seen = get(recorder.address, "/x", "").await;
    assert_eq!(seen.status(), Some(502), "{}", seen.text());
    let said = recorder.end();
    assert!(said.contains("was not written"), "{said}");
    assert!(!out.exists());
    let wrong = command("ftp://x", &out, &[]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

mod tls {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    /// One reply under TLS to each connection; its certificate in PEM form.
    async fn secure() -> (SocketAddr, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                let reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"ok\": 1}";
                let _ = stream.write_all(reply).await;
                let _ = stream.shutdown().await;
            }
        });
        (address, certificate.pem())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_api_under_tls_is_recorded_when_its_certificate_is_trusted() {
        let (address, pem) = secure().await;
        let folder = tempfile::tempdir().unwrap();
        let (out, ca) = (folder.path().join("s.yaml"), folder.path().join("ca.pem"));
        std::fs::write(&ca, pem).unwrap();
        let to = format!("https://localhost:{}", address.port());
        let trusting = Recorder::start(&to, &out, &["--ca", ca.to_str().unwrap()]);
        assert_eq!(get(trusting.address, "/x", "").await.body(), "{\"ok\": 1}");
        trusting.end();
        assert!(validate(&out).status.success());
        let strict = Recorder::start(&to, &out, &["--force"]);
        assert_eq!(get(strict.address, "/x", "").await.status(), Some(502));
    }
}
