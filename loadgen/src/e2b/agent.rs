//! The agent's plain HTTP: health and files.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::api::percent;
use super::sandbox::AGENT;
use super::{CallError, Client, Sandbox};

impl Client {
    /// Asks once whether the agent is there.
    ///
    /// # Errors
    /// When it is not, or not yet.
    pub async fn health(&self, sandbox: &Sandbox) -> Result<(), CallError> {
        let ask = self.inside(
            sandbox,
            AGENT,
            Method::GET,
            "/health".to_owned(),
            Bytes::new(),
        );
        CallError::check(self.pool.exchange(&ask).await?).map(drop)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn write(
        &self,
        sandbox: &Sandbox,
        path: &str,
        content: Bytes,
    ) -> Result<(), CallError> {
        let path = format!("/files?path={}", percent(path));
        let mut ask = self.inside(sandbox, AGENT, Method::POST, path, content);
        let octets = HeaderValue::from_static("application/octet-stream");
        ask.headers.push(("content-type", octets));
        CallError::check(self.pool.exchange(&ask).await?).map(drop)
    }

    /// Reads a file of at most `longest` bytes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn read(
        &self,
        sandbox: &Sandbox,
        path: &str,
        longest: usize,
    ) -> Result<Bytes, CallError> {
        let path = format!("/files?path={}", percent(path));
        let mut ask = self.inside(sandbox, AGENT, Method::GET, path, Bytes::new());
        ask.max_reply = longest;
        Ok(CallError::check(self.pool.exchange(&ask).await?)?.body)
    }
}
