//! Calls of the control API.

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::sandbox::usable;
use super::timing::Spans;
use super::{CallError, Client, Sandbox, timing};
use crate::wire::Reply;
use crate::wire::pool::Ask;

/// Name of the label that sandboxes of a run carry in their metadata.
pub const LABEL: &str = "loadgen-run";
/// Longest reply of the control API that is taken.
const MAX_REPLY: usize = 8 << 20;
/// Most pages of a listing that are read.
const MAX_PAGES: usize = 1000;

/// A call's answer and what the server says of its own time.
#[derive(Debug, Clone)]
pub struct Timed<T> {
    /// The answer.
    pub value: T,
    /// The server's spans, none where it tells none.
    pub spans: Spans,
}

/// One listed sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The run that made it, where one did.
    pub run: Option<String>,
}

impl Client {
    /// Creates a sandbox that carries the run's label, of the target's template or of a snapshot.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn create(&self, run: &str, from: Option<&str>) -> Result<Timed<Sandbox>, CallError> {
        let template = from.unwrap_or(&self.target.template);
        let asked = json!({"templateID": template, "metadata": {LABEL: run}});
        self.create_with(asked).await
    }

    /// Creates what is `asked` for (E2B: `NewSandbox`); of the target's template and with its time where it does not say.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn create_with(&self, asked: Value) -> Result<Timed<Sandbox>, CallError> {
        let target = &self.target;
        let mut body = json!({
            "templateID": target.template,
            "timeout": target.limits.sandbox_seconds,
        });
        if let (Some(body), Value::Object(asked)) = (body.as_object_mut(), asked) {
            body.extend(asked);
        }
        let reply = self.call(Method::POST, "/v2/sandboxes", &body).await?;
        timed(&reply, |value| Sandbox::read(&value))
    }

    /// Kills a sandbox. Gives whether it was there.
    ///
    /// # Errors
    /// See [`CallError`]; that it is gone already is none.
    pub async fn kill(&self, sandbox: &Sandbox) -> Result<bool, CallError> {
        let killed = self.kill_by_id(&sandbox.id).await;
        self.forget(sandbox);
        killed
    }

    /// Kills a sandbox of which only the id is known.
    ///
    /// # Errors
    /// See [`CallError`]; that it is gone already is none.
    pub async fn kill_by_id(&self, id: &str) -> Result<bool, CallError> {
        self.deleted(&format!("/sandboxes/{id}")).await
    }

    async fn deleted(&self, path: &str) -> Result<bool, CallError> {
        match self.send(Method::DELETE, path, Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Memory and disk are kept, nothing runs.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn pause(&self, sandbox: &Sandbox) -> Result<Spans, CallError> {
        let path = format!("/sandboxes/{}/pause", sandbox.id);
        let reply = self.call(Method::POST, &path, &json!({})).await?;
        Ok(timing::read(&reply.headers))
    }

    /// Resumes a paused sandbox. Its handle is renewed: a token may change.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn resume(&self, sandbox: &Sandbox) -> Result<Timed<Sandbox>, CallError> {
        let path = format!("/v2/sandboxes/{}/connect", sandbox.id);
        let body = json!({"timeout": self.target.limits.sandbox_seconds});
        let reply = self.call(Method::POST, &path, &body).await?;
        timed(&reply, |value| Sandbox::read(&value))
    }

    /// A snapshot that outlives its sandbox, which goes on. Gives its id.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn snapshot(&self, sandbox: &Sandbox) -> Result<Timed<String>, CallError> {
        let path = format!("/sandboxes/{}/snapshots", sandbox.id);
        let reply = self.call(Method::POST, &path, &json!({})).await?;
        timed(&reply, |value| {
            let id = value["snapshotID"].as_str().map(str::to_owned);
            id.ok_or(CallError::Lacks("snapshotID"))
        })
    }

    /// Deletes a snapshot. Gives whether it was there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete_snapshot(&self, id: &str) -> Result<bool, CallError> {
        self.deleted(&format!("/templates/{}", percent(id))).await
    }

    /// One child of a running sandbox, which goes on.
    ///
    /// # Errors
    /// See [`CallError`]; a fork that is told to have failed is one.
    pub async fn fork(&self, sandbox: &Sandbox) -> Result<Timed<Sandbox>, CallError> {
        let path = format!("/sandboxes/{}/fork", sandbox.id);
        let body = json!({"timeout": self.target.limits.sandbox_seconds, "count": 1});
        let reply = self.call(Method::POST, &path, &body).await?;
        timed(&reply, |value| match &value[0] {
            Value::Object(entry) if entry.contains_key("error") => Err(CallError::Stream {
                code: format!("fork {}", entry["error"]["code"]),
                message: super::error::short(entry["error"]["message"].as_str().unwrap_or("")),
            }),
            entry => Sandbox::read(&entry["sandbox"]),
        })
    }

    /// A checkpoint by name (beyond E2B).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn checkpoint(&self, sandbox: &Sandbox, name: &str) -> Result<Spans, CallError> {
        let path = format!("/sandboxes/{}/checkpoints", sandbox.id);
        let reply = self
            .call(Method::POST, &path, &json!({"name": name}))
            .await?;
        Ok(timing::read(&reply.headers))
    }

    /// Back to a checkpoint, in place (beyond E2B).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn rollback(&self, sandbox: &Sandbox, name: &str) -> Result<Spans, CallError> {
        let path = format!("/sandboxes/{}/rollback", sandbox.id);
        let body = json!({"checkpoint": name});
        let reply = self.call(Method::POST, &path, &body).await?;
        Ok(timing::read(&reply.headers))
    }

    /// The sandboxes that a run has made and that are still there, running or paused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list(&self, run: &str) -> Result<Vec<Listed>, CallError> {
        let filter = format!("{}={}", percent(&percent(LABEL)), percent(&percent(run)));
        let mut next = String::new();
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let path = format!(
                "/v2/sandboxes?limit=100&metadata={}{next}",
                percent(&filter)
            );
            let reply = self.send(Method::GET, &path, Bytes::new()).await?;
            let Ok(Value::Array(page)) = serde_json::from_slice(&reply.body) else {
                return Err(CallError::Lacks("array of sandboxes"));
            };
            found.extend(page.iter().filter_map(listed));
            let token = reply.headers.get("x-next-token");
            match token.and_then(|token| token.to_str().ok()) {
                Some(token) if !token.is_empty() => next = format!("&nextToken={}", percent(token)),
                _ => break,
            }
        }
        // A server that ignores the filter lists what others have made as well.
        found.retain(|listed| listed.run.as_deref() == Some(run));
        Ok(found)
    }

    /// Memory that the guest says that it uses, in bytes, from the newest reading; `None` before the first.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn guest_used(&self, sandbox: &Sandbox) -> Result<Option<u64>, CallError> {
        let path = format!("/sandboxes/{}/metrics", sandbox.id);
        let reply = self.send(Method::GET, &path, Bytes::new()).await?;
        let value: Value = parsed(&reply)?;
        let newest = value.as_array().and_then(|all| all.last());
        Ok(newest.and_then(|reading| reading["memUsed"].as_u64()))
    }

    /// Memory that the guest was given, in bytes, where the API tells it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn memory(&self, sandbox: &Sandbox) -> Result<Option<u64>, CallError> {
        let path = format!("/sandboxes/{}", sandbox.id);
        let reply = self.send(Method::GET, &path, Bytes::new()).await?;
        let mib = parsed(&reply)?["memoryMB"].as_u64();
        Ok(mib.and_then(|mib| mib.checked_mul(1 << 20)))
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Reply, CallError> {
        self.send(method, path, Bytes::from(body.to_string())).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Reply, CallError> {
        let mut headers = vec![("x-api-key", self.target.key.clone())];
        if !body.is_empty() {
            headers.push(("content-type", HeaderValue::from_static("application/json")));
        }
        let ask = Ask {
            method,
            origin: self.target.api.clone(),
            path: path.to_owned(),
            headers,
            body,
            limit: self.target.limits.life,
            max_reply: MAX_REPLY,
        };
        CallError::check(self.pool.exchange(&ask).await?)
    }
}

fn listed(value: &Value) -> Option<Listed> {
    let id = value["sandboxID"].as_str().filter(|id| usable(id))?;
    Some(Listed {
        id: id.to_owned(),
        run: value["metadata"][LABEL].as_str().map(str::to_owned),
    })
}

fn parsed(reply: &Reply) -> Result<Value, CallError> {
    serde_json::from_slice(&reply.body).map_err(|_| CallError::Lacks("JSON"))
}

fn timed<T>(
    reply: &Reply,
    read: impl FnOnce(Value) -> Result<T, CallError>,
) -> Result<Timed<T>, CallError> {
    Ok(Timed {
        value: read(parsed(reply)?)?,
        spans: timing::read(&reply.headers),
    })
}

/// Percent-encodes all but letters, digits and `-_.~`.
#[must_use]
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
