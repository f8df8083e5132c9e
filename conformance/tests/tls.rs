//! The shipped program against a front that ends TLS before the bad server.

mod common;

use std::process::Output;
use std::sync::Arc;

use bad_server::BadServer;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use self::common::{program, said};

/// A TLS address whose bytes go to the bad server, and the root that signed its certificate.
struct Front {
    port: u16,
    root: NamedTempFile,
    task: JoinHandle<()>,
    _server: BadServer,
}

impl Front {
    async fn start(names: &[&str]) -> Self {
        let server = BadServer::start(None).await.unwrap();
        let behind = server.url().strip_prefix("http://").unwrap().to_owned();
        let (root, config) = certified(names);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut inner = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        Self {
            port,
            root,
            task,
            _server: server,
        }
    }

    fn root(&self) -> &str {
        self.root.path().to_str().unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A root in a file, and a server with a certificate of it for these names.
fn certified(names: &[&str]) -> (NamedTempFile, ServerConfig) {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name
        .push(DnType::CommonName, "root of a test");
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), root_certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (file, config)
}

fn run(arguments: &[&str]) -> Output {
    program(&[&["run"], arguments].concat())
}

/// Unary calls, streams, files, host names, and an end by a cut connection.
const SOME: &[&str] = &[
    "--check",
    "lifecycle/create-v2",
    "--check",
    "process/stdout",
    "--check",
    "process/large-output",
    "--check",
    "files/write",
    "--check",
    "proxy/by-name",
    "--check",
    "proxy/kill-cuts-command",
];

#[tokio::test(flavor = "multi_thread")]
async fn host_names_of_a_domain_are_reached_by_tls() {
    let front = Front::start(&["api.sandbox.test", "*.sandbox.test"]).await;
    let url = format!("https://api.sandbox.test:{}", front.port);
    let domain = format!("sandbox.test:{}", front.port);
    let door = ["--url", &url, "--domain", &domain, "--ca", front.root()];
    let names = ["--resolve", "*.sandbox.test:127.0.0.1"];
    let output = run(&[&door[..], &names[..], SOME].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_for_all_sandboxes_is_reached_by_tls() {
    let front = Front::start(&["localhost", "127.0.0.1"]).await;
    let url = format!("https://127.0.0.1:{}", front.port);
    let sandboxes = format!("https://localhost:{}", front.port);
    let door = ["--url", &url, "--sandbox-url", &sandboxes];
    let output = run(&[&door[..], &["--ca", front.root()], SOME].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_no_target() {
    let front = Front::start(&["localhost"]).await;
    let url = format!("https://localhost:{}", front.port);
    let door = ["--url", &url, "--sandbox-url", &url];
    let unknown = run(&door);
    assert_eq!(unknown.status.code(), Some(3), "{}", said(&unknown));
    assert!(
        said(&unknown).contains("UnknownIssuer"),
        "{}",
        said(&unknown)
    );

    let other = format!("https://127.0.0.1:{}", front.port);
    let name = run(&["--url", &other, "--sandbox-url", &url, "--ca", front.root()]);
    assert_eq!(name.status.code(), Some(3), "{}", said(&name));
    assert!(
        said(&name).contains("not valid for name"),
        "{}",
        said(&name)
    );

    let none = run(&[&door[..], &["--ca", "no-such-file.pem"]].concat());
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_where_tls_is_meant_is_one_sentence() {
    let server = BadServer::start(None).await.unwrap();
    let url = server.url().replace("http://", "https://");
    let output = run(&["--url", &url, "--sandbox-url", &url]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no TLS with"), "{}", said(&output));
}
