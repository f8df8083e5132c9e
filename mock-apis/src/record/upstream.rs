//! The real API: where it is, and one call to it. Each call has a connection of its own, so none fails for what an idle one went through.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri, response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{MAX_PASSED, REPLY_TIMEOUT};

/// Why there is no upstream, or no reply of it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not an origin.
    #[error("`{0}` is not http://HOST[:PORT] or https://HOST[:PORT]")]
    Address(String),
    /// Certificates that cannot be used.
    #[error("{}: no certificates in PEM form", .0.display())]
    Certificates(PathBuf),
    /// No connection, or it broke.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Not HTTP.
    #[error("the reply is not HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// Beyond [`MAX_PASSED`], or it broke off.
    #[error("the reply broke off, or has more than {MAX_PASSED} bytes")]
    Body,
    /// Beyond [`REPLY_TIMEOUT`].
    #[error("no whole reply within {} s", REPLY_TIMEOUT.as_secs())]
    Late,
}

/// The real API.
#[derive(Clone)]
pub struct Upstream {
    authority: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Upstream {
    /// The one at `origin`; with TLS, certificates of the system are good, and those in `ca`.
    pub fn new(origin: &str, ca: Option<&Path>) -> Result<Self, UpstreamError> {
        let wrong = || UpstreamError::Address(origin.to_owned());
        let uri: Uri = origin.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => (443, Some(connector(ca)?)),
            _ => return Err(wrong()),
        };
        Ok(Self {
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            tls,
        })
    }

    /// What the `host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its host name alone.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// One call: the whole reply.
    pub async fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(response::Parts, Bytes), UpstreamError> {
        tokio::time::timeout(REPLY_TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| UpstreamError::Late)?
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(response::Parts, Bytes), UpstreamError> {
        let io = |error| UpstreamError::Io(self.authority.clone(), error);
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(io)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|_| UpstreamError::Address(self.authority.clone()))?;
                Box::new(tls.connect(name, stream).await.map_err(io)?)
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let reply = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_PASSED).collect().await;
            Ok((parts, body.map_err(|_| UpstreamError::Body)?.to_bytes()))
        };
        // The connection does the work of the call, and ends with it.
        tokio::pin!(reply, connection);
        tokio::select! {
            reply = &mut reply => return reply,
            ended = &mut connection => ended?,
        }
        reply.await
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, UpstreamError> {
    let mut roots = RootCertStore::empty();
    // Those of the system that cannot be read are left out; without any, each handshake says that it knows no issuer.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let wrong = || UpstreamError::Certificates(path.to_owned());
        let all = CertificateDer::pem_file_iter(path).map_err(|_| wrong())?;
        let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|_| wrong())?;
        if roots.add_parsable_certificates(all).0 == 0 {
            return Err(wrong());
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_and_nothing_else() {
        for (text, host, port) in [
            ("http://api.example.com", "api.example.com", 80),
            ("https://api.example.com/", "api.example.com", 443),
            ("http://127.0.0.1:81", "127.0.0.1", 81),
            ("http://[::1]:82", "::1", 82),
        ] {
            let upstream = Upstream::new(text, None).unwrap();
            assert_eq!((upstream.host(), upstream.port), (host, port), "{text}");
        }
        for text in [
            "api.example.com",
            "ftp://x",
            "http://u:p@x",
            "http://x/path",
            "http://x?q",
            "http://",
            "",
        ] {
            assert!(Upstream::new(text, None).is_err(), "{text}");
        }
    }
}
