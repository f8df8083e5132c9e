//! One entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Headers;
use crate::engine::{Call, Decision, Face};
use crate::fault::{Act, Reply};

/// Bytes of a body that are kept; the digest is of all of it.
pub const KEPT_BODY: usize = 64 * 1024;

/// A call and what became of it. Times are milliseconds since the start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// Number, from 1.
    pub n: u64,
    /// Who called, by connection or trusted header.
    pub caller: String,
    /// Where the call came in.
    #[serde(default)]
    pub face: Face,
    /// Arrival.
    pub at_ms: u64,
    /// Service.
    pub service: String,
    /// Operation, when a route was found.
    pub operation: Option<String>,
    /// The request.
    pub request: Seen,
    /// Rule that decided.
    pub rule: Option<usize>,
    /// Fault.
    pub fault: Option<String>,
    /// The reply, unless a script on the bare connection or a spoilt message stands for it.
    pub reply: Option<SeenReply>,
    /// Routes that nearly matched.
    #[serde(default)]
    pub near_misses: Vec<String>,
    /// Names of planted secrets in the request.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// How it ended; nothing while it is under way.
    pub end: Option<End>,
}

/// A request. Its credential is kept as a digest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query.
    pub query: String,
    /// Headers, without the credential.
    pub headers: Headers,
    /// First 16 hexadecimal digits of the SHA-256 of the credential.
    pub credential: Option<String>,
    /// Body, up to 64 KiB.
    pub body: String,
    /// Its whole length.
    pub body_bytes: usize,
    /// SHA-256 of the whole body.
    pub body_sha256: String,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenReply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body, up to 64 KiB.
    pub body: String,
}

/// How and when a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub how: How,
    /// When.
    pub at_ms: u64,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The reply was given to the connection.
    Sent,
    /// The script of a fault was played to its end.
    Played,
    /// The client left first.
    ClientLeft,
}

impl Entry {
    /// The entry of a call at its arrival; `secrets` are names and values that no request may have.
    pub fn new(
        call: &Call,
        service: &str,
        decision: &Decision,
        at_ms: u64,
        secrets: &BTreeMap<String, String>,
    ) -> Self {
        let mut headers = call.headers.clone();
        let credential = headers
            .remove("authorization")
            .or_else(|| headers.remove("x-api-key"));
        let text = String::from_utf8_lossy(&call.body);
        let holds = |value: &String| {
            !value.is_empty()
                && (text.contains(value)
                    || call.path.contains(value)
                    || call.query.contains(value)
                    || call.headers.values().any(|header| header.contains(value)))
        };
        Self {
            n: 0,
            caller: call.caller.clone(),
            face: call.face,
            at_ms,
            service: service.to_owned(),
            operation: decision.operation.clone(),
            request: Seen {
                method: call.method.clone(),
                path: call.path.clone(),
                query: call.query.clone(),
                headers: headers.into(),
                credential: credential.map(|it| digest(it.as_bytes())[..16].to_owned()),
                body: kept(&call.body),
                body_bytes: call.body.len(),
                body_sha256: digest(&call.body),
            },
            rule: decision.rule,
            fault: decision.fault.map(str::to_owned),
            reply: match (&decision.act, &decision.message) {
                (Act::Reply(reply), None) => Some(SeenReply::from(reply)),
                _ => None,
            },
            near_misses: decision.near_misses.clone(),
            secrets: secrets
                .iter()
                .filter(|(_, value)| holds(value))
                .map(|(name, _)| name.clone())
                .collect(),
            end: None,
        }
    }

    /// Bytes that it holds, about.
    pub fn size(&self) -> usize {
        let headers: usize = self
            .request
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let reply = self.reply.as_ref().map_or(0, |reply| reply.body.len());
        self.request.body.len()
            + self.request.path.len()
            + self.request.query.len()
            + headers
            + reply
    }

    /// `service.operation`, or nothing when no route was found.
    pub fn name(&self) -> Option<String> {
        self.operation
            .as_ref()
            .map(|operation| format!("{}.{operation}", self.service))
    }

    /// Status of the reply.
    pub fn status(&self) -> Option<u16> {
        self.reply.as_ref().map(|reply| reply.status)
    }

    /// The same without what differs between two runs of one seed: times.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        self.at_ms = 0;
        if let Some(end) = &mut self.end {
            end.at_ms = 0;
        }
        self
    }
}

impl From<&Reply> for SeenReply {
    fn from(reply: &Reply) -> Self {
        Self {
            status: reply.status,
            headers: reply.headers.clone(),
            body: kept(&reply.body),
        }
    }
}

fn kept(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(KEPT_BODY)]).into_owned()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
