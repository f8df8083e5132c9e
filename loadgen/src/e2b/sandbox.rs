//! A sandbox, as its creator knows it.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::target::Route;
use super::{CallError, Client};
use crate::wire::address::Origin;
use crate::wire::pool::Ask;

/// Port of the agent.
pub const AGENT: u16 = 49983;
/// Port of the code interpreter.
pub const CODE: u16 = 49999;
/// Longest id that is taken.
const MAX_ID: usize = 128;

/// A handle.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// Its agent's token, where it has one.
    pub token: Option<HeaderValue>,
    /// The agent's version.
    pub version: Option<String>,
}

impl Sandbox {
    /// Reads a create's answer, or an element of a fork's.
    ///
    /// # Errors
    /// When it has no usable id or token.
    pub fn read(value: &serde_json::Value) -> Result<Self, CallError> {
        let id = value["sandboxID"].as_str().filter(|id| usable(id));
        let token = match value["envdAccessToken"].as_str() {
            None | Some("") => None,
            Some(token) => {
                let mut token = HeaderValue::from_str(token)
                    .map_err(|_| CallError::Lacks("usable envdAccessToken"))?;
                token.set_sensitive(true);
                Some(token)
            }
        };
        Ok(Self {
            id: id.ok_or(CallError::Lacks("usable sandboxID"))?.to_owned(),
            token,
            version: value["envdVersion"].as_str().map(super::error::short),
        })
    }
}

/// Whether an id can stand in a path and a host name.
#[must_use]
pub fn usable(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !id.is_empty() && id.len() <= MAX_ID && id.chars().all(plain)
}

impl Client {
    /// Where a port of a sandbox is.
    fn place(&self, sandbox: &Sandbox, port: u16) -> Origin {
        match &self.target.route {
            Route::Headers(origin) => origin.clone(),
            Route::Domain {
                tls,
                domain,
                port: at,
            } => Origin {
                tls: *tls,
                host: format!("{port}-{}.{domain}", sandbox.id),
                port: *at,
            },
        }
    }

    /// A request to a port of a sandbox.
    pub(super) fn inside(
        &self,
        sandbox: &Sandbox,
        port: u16,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Ask {
        let mut headers = Vec::with_capacity(6);
        if let Route::Headers(_) = self.target.route {
            if let Ok(id) = HeaderValue::from_str(&sandbox.id) {
                headers.push(("e2b-sandbox-id", id));
            }
            headers.push(("e2b-sandbox-port", HeaderValue::from(port)));
        }
        if let Some(token) = &sandbox.token {
            headers.push(("x-access-token", token.clone()));
        }
        Ask {
            method,
            origin: self.place(sandbox, port),
            path,
            headers,
            body,
            limit: self.target.limits.call,
            max_reply: 1 << 20,
        }
    }

    /// Closes what is left of the connections to a sandbox that is gone. Those to an address for all stay: they are not its.
    pub(super) fn forget(&self, sandbox: &Sandbox) {
        if let Route::Domain { .. } = self.target.route {
            for port in [AGENT, CODE] {
                self.pool.forget(&self.place(sandbox, port));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_ids_and_tokens_are_refused() {
        let read = |id: &str, token: &str| {
            Sandbox::read(&json!({"sandboxID": id, "envdAccessToken": token})).is_ok()
        };
        assert!(read("i123abc", "t"));
        for id in ["", "../../v2", "a b", "a\r\nb", &"x".repeat(500)] {
            assert!(!read(id, "t"), "{id:?}");
        }
        assert!(!read("i1", "a\r\nb: c"));
        assert!(Sandbox::read(&json!([])).is_err());
    }
}
