//! A TLS front for SDKs that know only a domain. They ask `https://api.DOMAIN` and `https://PORT-ID.DOMAIN`; the front ends
//! TLS and passes the bytes on, by the name in the handshake. It changes nothing: `Host` arrives as the SDK sent it.
//!
//! ```text
//!  SDK ── TLS, SNI api.D ──────────► front ── plain ──► the API's address
//!      ── TLS, SNI 49983-ID.D ─────►       ── plain ──► the sandboxes' address
//! ```
//!
//! The names lead to the front in the scenario's process only, and only there its certificate is trusted. Both stand in
//! for the wildcard record and certificate that an installation with a domain has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::setup::cache;
use crate::context::unique;
use crate::target::{Door, Target};

/// The domain where the target has one address for all sandboxes and names none itself; such a target takes any.
const DOMAIN: &str = "sandboxes.e2b-conformance.test";

/// Why there is no front.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FrontError {
    /// The certificate could not be made.
    #[error("no certificate for the TLS front: {0}")]
    Certificate(String),
    /// It cannot listen.
    #[error("the TLS front cannot listen: {0}")]
    Listen(String),
    /// The certificate cannot be given to the SDK.
    #[error("the TLS front's certificate cannot be written: {0}")]
    Write(String),
    /// The target's address is none.
    #[error("`{0}` is no address")]
    Address(String),
    /// Sandboxes are reached by TLS already, and the API is not where this version of the SDK looks for it.
    #[error("this version of the SDK knows a domain only: its API must be at https://api.{0}")]
    Names(String),
}

/// A running front; it ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    domain: String,
    task: JoinHandle<()>,
}

/// One authority for all fronts of the process, so that a scenario needs to trust but one.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

static AUTHORITY: LazyLock<Result<Authority, FrontError>> = LazyLock::new(|| {
    let made = || {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "e2b-conformance, one run only");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            pem,
        })
    };
    made().map_err(wrong)
});

fn wrong(error: rcgen::Error) -> FrontError {
    FrontError::Certificate(error.to_string())
}

/// Where connections of a name go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Upstream {
    One(String),
    /// The name itself, at this port.
    Named(u16),
}

#[derive(Clone, Debug)]
struct Routes {
    api_name: String,
    api: String,
    sandboxes: Upstream,
}

impl Routes {
    fn of(&self, name: &str) -> String {
        if name == self.api_name {
            return self.api.clone();
        }
        match &self.sandboxes {
            Upstream::One(address) => address.clone(),
            Upstream::Named(port) => format!("{name}:{port}"),
        }
    }
}

/// `own` is the domain that the target's sandboxes say is theirs: SDKs from 2.0 on follow it.
fn routes(target: &Target, own: Option<&str>) -> Result<(Routes, String), FrontError> {
    let (sandboxes, domain) = match &target.door {
        Door::Shared { url, .. } => {
            let own = own.and_then(|own| own.split(':').next());
            let own = own.filter(|own| !own.is_empty()).unwrap_or(DOMAIN);
            (Upstream::One(address(url)?), own.to_owned())
        }
        Door::Names { scheme, domain, .. } if scheme == "https" => {
            return Err(FrontError::Names(domain.clone()));
        }
        Door::Names { port, domain, .. } => {
            let name = domain.split(':').next().unwrap_or(domain).to_owned();
            (Upstream::Named(port.unwrap_or(80)), name)
        }
    };
    let routes = Routes {
        api_name: format!("api.{domain}"),
        api: address(&target.url)?,
        sandboxes,
    };
    Ok((routes, domain))
}

fn address(url: &str) -> Result<String, FrontError> {
    let wrong = || FrontError::Address(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

impl Front {
    /// Starts one at a free port of the loopback address.
    ///
    /// # Errors
    /// See [`FrontError`].
    pub async fn start(target: &Target, own: Option<&str>) -> Result<Self, FrontError> {
        let (routes, domain) = routes(target, own)?;
        let config = config(&domain)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(|error| FrontError::Listen(error.to_string()))?;
        let address = listener
            .local_addr()
            .map_err(|error| FrontError::Listen(error.to_string()))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(passed(acceptor.clone(), routes.clone(), stream));
            }
        });
        Ok(Self {
            address,
            domain,
            task,
        })
    }

    /// The environment with which a scenario finds it and trusts it.
    ///
    /// # Errors
    /// When the certificate cannot be written.
    pub fn settings(&self) -> Result<Vec<(String, String)>, FrontError> {
        let trusted = trusted()?.display().to_string();
        Ok([
            ("E2B_DOMAIN", self.domain.clone()),
            ("E2B_CONFORMANCE_FRONT", self.domain.clone()),
            (
                "E2B_CONFORMANCE_FRONT_PORT",
                self.address.port().to_string(),
            ),
            ("SSL_CERT_FILE", trusted.clone()),
            ("NODE_EXTRA_CA_CERTS", trusted),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The authority's certificate as a file, once it was asked for.
static TRUSTED: OnceLock<Result<PathBuf, FrontError>> = OnceLock::new();

fn trusted() -> Result<PathBuf, FrontError> {
    let written = TRUSTED.get_or_init(|| {
        let authority = AUTHORITY.as_ref().map_err(Clone::clone)?;
        let write = || {
            let folder = cache().map_err(std::io::Error::other)?;
            std::fs::create_dir_all(&folder)?;
            let file = folder.join(format!("authority-{}.pem", unique()));
            std::fs::write(&file, &authority.pem)?;
            Ok(file)
        };
        write().map_err(|error: std::io::Error| FrontError::Write(error.to_string()))
    });
    written.clone()
}

/// Removes the certificate's file at the end of a run.
pub fn tidy() {
    if let Some(Ok(file)) = TRUSTED.get() {
        let _ = std::fs::remove_file(file);
    }
}

/// A certificate for each name, made when it is asked for: a wildcard below a domain of one label is not accepted everywhere.
#[derive(Debug)]
struct Certificates {
    domain: String,
    made: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

/// Names that certificates are kept for; a run has far fewer.
const NAMES: usize = 4_096;

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        if !name.strip_suffix(&self.domain)?.ends_with('.') {
            return None;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(have) = made.get(name) {
            return Some(Arc::clone(have));
        }
        let fresh = Arc::new(certificate(name)?);
        if made.len() < NAMES {
            made.insert(name.to_owned(), Arc::clone(&fresh));
        }
        Some(fresh)
    }
}

fn certificate(name: &str) -> Option<CertifiedKey> {
    let authority = AUTHORITY.as_ref().ok()?;
    let key = KeyPair::generate().ok()?;
    let params = CertificateParams::new(vec![name.to_owned()]).ok()?;
    let leaf = params.signed_by(&key, &authority.issuer).ok()?;
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::ring::sign::any_supported_type(&secret).ok()?;
    Some(CertifiedKey::new(vec![leaf.der().clone()], signer))
}

fn config(domain: &str) -> Result<ServerConfig, FrontError> {
    AUTHORITY.as_ref().map_err(Clone::clone)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = Certificates {
        domain: domain.to_owned(),
        made: Mutex::default(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FrontError::Certificate(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    // The target behind it speaks HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn passed(acceptor: TlsAcceptor, routes: Routes, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(mut client) = acceptor.accept(stream).await else {
        return;
    };
    let name = client.get_ref().1.server_name().unwrap_or("").to_owned();
    let Ok(mut server) = TcpStream::connect(routes.of(&name)).await else {
        return;
    };
    let _ = server.set_nodelay(true);
    // A reset on one side must be no clean end on the other: without a close_notify the SDK sees a cut.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetFile;

    fn target(sandbox_url: Option<&str>, domain: Option<&str>) -> Target {
        let file = TargetFile {
            url: Some("http://127.0.0.1:3000".to_owned()),
            api_key: Some("key".to_owned()),
            sandbox_url: sandbox_url.map(str::to_owned),
            domain: domain.map(str::to_owned),
            ..TargetFile::default()
        };
        file.target().unwrap()
    }

    #[test]
    fn names_lead_to_the_api_and_to_sandboxes() {
        let (one, domain) = routes(&target(Some("http://127.0.0.1:3001"), None), None).unwrap();
        assert_eq!(domain, DOMAIN);
        assert_eq!(one.of(&format!("api.{DOMAIN}")), "127.0.0.1:3000");
        assert_eq!(one.of(&format!("49983-iabc.{DOMAIN}")), "127.0.0.1:3001");
        let plain = Some("http://box.example:3000");
        let (named, domain) = routes(&target(None, plain), None).unwrap();
        assert_eq!(domain, "box.example");
        assert_eq!(
            named.of("49983-iabc.box.example"),
            "49983-iabc.box.example:3000"
        );
        let secure = routes(&target(None, Some("box.example")), None);
        assert!(matches!(secure, Err(FrontError::Names(_))));
    }

    #[tokio::test]
    async fn a_front_has_a_certificate_for_its_names() {
        assert!(certificate("49983-iabc.box.example").is_some());
        let front = Front::start(
            &target(Some("http://127.0.0.1:3001"), None),
            Some("own.example:3000"),
        )
        .await
        .unwrap();
        assert_eq!(front.domain, "own.example");
        assert!(front.address.port() > 0);
    }
}
