//! A server for tests: at free ports of the loopback address.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{Identity, Server};
use crate::engine::{Engine, EngineError};
use crate::scenario::{self, LoadError};

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] LoadError),
    /// Its contracts.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its sockets.
    #[error("no free port: {0}")]
    Io(#[from] std::io::Error),
}

const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Server {
    /// Serves the scenario in `text`, for a test, until it is dropped; contracts are found from the working folder. Each service has an
    /// address of its own in [`Server::services`], and [`Server::shared`] has the journal. All faults work, those of the bare connection
    /// too:
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use mock_apis::Server;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let server = Server::local("
    /// version: 1
    /// name: unit test
    /// services:
    ///   - name: api
    ///     routes:
    ///       - operation: read
    ///         method: GET
    ///         path: /things/{id}
    ///         reply: {status: 200, body: {ok: true}}
    ///         rules: [{schedule: {first: 1}, fault: {reset_before_headers: {}}}]
    /// ").await?;
    ///
    /// let call = async || {
    ///     let mut stream = tokio::net::TcpStream::connect(server.services["api"]).await?;
    ///     stream.write_all(b"GET /things/1 HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await?;
    ///     let mut text = String::new();
    ///     stream.read_to_string(&mut text).await.map(|_| text)
    /// };
    /// assert_eq!(call().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    /// assert!(call().await?.ends_with("{\"ok\":true}"));
    /// assert_eq!(server.shared.lock().journal.entries().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn local(text: &str) -> Result<Self, LocalError> {
        let scenario = scenario::from_text(text).map_err(|problems| LoadError::Invalid {
            path: "scenario".into(),
            problems,
        })?;
        let engine = Engine::new(scenario, Path::new("."))?;
        Ok(Self::start(engine, FREE, FREE, Identity::default()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scenario_that_is_none_is_told_with_its_line() {
        let error = Server::local("version: 1\nname: n\nservices: 7\n")
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("scenario:3: "), "{error}");
    }
}
