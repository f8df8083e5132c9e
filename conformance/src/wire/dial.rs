//! How a connection is made: name to address, TCP, and TLS where the scheme says so.
//!
//! ```text
//!  https://49983-ID.example.com:8443
//!   │        └── --resolve, else the system's resolver ──► address ──► TCP ──► TLS: this name, roots of the web and --ca
//!   └── http: no TLS
//! ```
//!
//! Certificates are always checked: a server that clients cannot trust is not reached by them either.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http1::HttpError;

/// A connection, plain or not.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What is wrong with the options for connections.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// A file of roots that cannot be read.
    #[error("--ca {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("--ca {0}: there is no certificate in PEM form in it")]
    Empty(PathBuf),
    /// A certificate that cannot be a root.
    #[error("--ca {path}: {source}")]
    Root {
        /// Of which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// Not of the form.
    #[error("--resolve takes HOST:ADDRESS or *.DOMAIN:ADDRESS, not `{0}`")]
    Resolve(String),
}

/// A name and the address to use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// The name, or what comes after `*` with its dot.
    name: String,
    wildcard: bool,
    address: IpAddr,
}

impl Known {
    fn is(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if self.wildcard {
            host.strip_suffix(&self.name)
                .is_some_and(|label| !label.is_empty())
        } else {
            host == self.name
        }
    }
}

/// How connections of a run are made.
#[derive(Clone, Debug)]
pub struct Way {
    trust: Arc<ClientConfig>,
    known: Arc<[Known]>,
}

impl Way {
    /// Trusts the roots of the web and those of a file, and knows the addresses of names (`HOST:ADDRESS`).
    ///
    /// # Errors
    /// See [`WayError`].
    pub fn new(ca: Option<&Path>, resolve: &[String]) -> Result<Self, WayError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        if let Some(path) = ca {
            add(&mut roots, path)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut trust = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // The suite speaks HTTP/1.1 only, and says so.
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        let known = resolve
            .iter()
            .map(|text| known(text).ok_or_else(|| WayError::Resolve(text.clone())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            trust: Arc::new(trust),
            known: known.into(),
        })
    }

    /// Connects to an origin (`https://host:port`). Gives the connection and the value of `Host` that belongs to it.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn dial(&self, origin: &str) -> Result<(Box<dyn Wire>, String), HttpError> {
        let place = Place::read(origin)?;
        let broken = |source| HttpError::Connect {
            address: place.authority.clone(),
            source,
        };
        let known = self.known.iter().find(|known| known.is(&place.host));
        let stream = match known {
            Some(known) => TcpStream::connect(SocketAddr::new(known.address, place.port)).await,
            None => TcpStream::connect((place.host.as_str(), place.port)).await,
        }
        .map_err(broken)?;
        let _ = stream.set_nodelay(true);
        if !place.tls {
            return Ok((Box::new(stream), place.authority));
        }
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| HttpError::Address(origin.to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(&self.trust));
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|source| HttpError::Tls {
                address: place.authority.clone(),
                source,
            })?;
        Ok((Box::new(stream), place.authority))
    }
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), WayError> {
    let file = |source| WayError::File {
        path: path.to_owned(),
        source,
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(file)? {
        roots
            .add(certificate.map_err(file)?)
            .map_err(|source| WayError::Root {
                path: path.to_owned(),
                source,
            })?;
    }
    if roots.len() == before {
        return Err(WayError::Empty(path.to_owned()));
    }
    Ok(())
}

fn known(text: &str) -> Option<Known> {
    let (name, address) = text.split_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let (wildcard, name) = match name.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let fits = if wildcard {
        name.len() > 1 && name.starts_with('.')
    } else {
        !name.is_empty()
    };
    fits.then_some(())?;
    Some(Known {
        name: name.to_ascii_lowercase(),
        wildcard,
        address: address.parse().ok()?,
    })
}

/// An origin, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    /// Host, and the port where the origin has one.
    authority: String,
}

impl Place {
    fn read(origin: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(origin.to_owned());
        let uri: Uri = origin.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,60}") {
            let _ = (Place::read(&text), known(&text));
        }

        #[test]
        fn a_wildcard_holds_for_names_below_and_no_others(label in "[a-z0-9-]{1,20}", other in "[a-z]{1,10}") {
            let below = known("*.sandbox.test:127.0.0.1").unwrap();
            let (inside, outside) = (format!("{label}.sandbox.test"), format!("{label}.{other}"));
            proptest::prop_assert!(below.is(&inside) && !below.is(&outside));
        }
    }

    #[test]
    fn origins_are_taken_apart() {
        for (origin, tls, host, port, authority) in [
            (
                "http://127.0.0.1:3000",
                false,
                "127.0.0.1",
                3000,
                "127.0.0.1:3000",
            ),
            (
                "https://api.example.com",
                true,
                "api.example.com",
                443,
                "api.example.com",
            ),
            (
                "http://api.example.com",
                false,
                "api.example.com",
                80,
                "api.example.com",
            ),
            ("https://[::1]:8443", true, "::1", 8443, "[::1]:8443"),
        ] {
            let wanted = Place {
                tls,
                host: host.to_owned(),
                port,
                authority: authority.to_owned(),
            };
            assert_eq!(Place::read(origin).unwrap(), wanted, "{origin}");
        }
        for wrong in ["ftp://host", "host:80", "", "http://"] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_resolved_as_said() {
        let one = known("API.example.com:127.0.0.1").unwrap();
        assert!(one.is("api.Example.com") && !one.is("x.api.example.com"));
        let below = known("*.sandbox.test:[::1]").unwrap();
        assert_eq!(below.address, "::1".parse::<IpAddr>().unwrap());
        assert!(below.is("49983-iabc.sandbox.test"));
        assert!(!below.is("sandbox.test") && !below.is(".sandbox.test"));
        for wrong in [
            "host",
            "host:name",
            ":127.0.0.1",
            "*:127.0.0.1",
            "*.:127.0.0.1",
            "*x.test:127.0.0.1",
        ] {
            assert_eq!(known(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            Way::new(Some(file.path()), &[]),
            Err(WayError::Empty(_))
        ));
        let gone = Path::new("no-such-file.pem");
        assert!(matches!(
            Way::new(Some(gone), &[]),
            Err(WayError::File { .. })
        ));
        assert!(Way::new(None, &[]).is_ok());
    }
}
