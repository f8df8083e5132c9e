//! A connection's bytes: plain or under TLS.

use std::io;
use std::sync::{Arc, LazyLock};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::WireError;
use super::address::Origin;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The system's certificates, read once.
static TLS: LazyLock<TlsConnector> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be read are left out; without any, each handshake says that it knows no issuer.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder().with_root_certificates(roots);
    TlsConnector::from(Arc::new(config.with_no_client_auth()))
});

/// Connects.
///
/// # Errors
/// When the name is not known, nobody listens, or TLS fails.
pub async fn connect(origin: &Origin) -> Result<TokioIo<Box<dyn Stream>>, WireError> {
    let host = origin.name();
    let addresses = tokio::net::lookup_host((host, origin.port)).await;
    let addresses: Vec<_> = addresses
        .map_err(|source| WireError::Resolve {
            host: host.to_owned(),
            source,
        })?
        .collect();
    let stream = TcpStream::connect(&addresses[..])
        .await
        .map_err(|source| WireError::Connect {
            address: origin.authority(),
            source,
        })?;
    // Not to wait for more bytes is a wish; without it the figures are worse, never wrong.
    let _ = stream.set_nodelay(true);
    if !origin.tls {
        return Ok(TokioIo::new(Box::new(stream)));
    }
    let failed = |source| WireError::Tls {
        host: host.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TLS.connect(name, stream).await.map_err(failed)?;
    Ok(TokioIo::new(Box::new(stream)))
}
