//! What a scenario file says, field by field. Unknown fields are refused.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expect::Expectation;
use crate::fault::Fault;
use crate::pure::idempotency::Policy;
use crate::pure::latency::Latency;
use crate::pure::quota::Quota;
use crate::pure::schedule::Schedule;

/// A scenario: services that misbehave on schedule, and what an agent is expected to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Format of the file: 1.
    pub version: u32,
    /// Name of the scenario, for reports.
    pub name: String,
    /// Seed of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// The APIs.
    pub services: Vec<Service>,
    /// What an agent that uses them is judged by.
    #[serde(default)]
    pub expectations: Vec<Expectation>,
    /// Environment of the agent; each service's address is added as `<NAME>_URL`, the MCP server's as `MCP_URL`.
    #[serde(default)]
    pub agent_env: BTreeMap<String, String>,
}

/// One API. Requests reach it by the first label of their host name, or at a port of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// OpenAPI 3.1 document, beside the scenario file. Its operations are served without further words.
    #[serde(default)]
    pub openapi: Option<String>,
    /// Credentials that are good. Without any, and with a contract that asks for one, every call is refused.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// Latency of routes that have none of their own.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// Quota of all routes together.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// Routes with rules of their own.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// A credential: a bearer token or the value of an API key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The secret word.
    pub token: String,
    /// Operations that it is good for; all when empty. Others answer 403.
    #[serde(default)]
    pub operations: Vec<String>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name of the operation; with a contract, its `operationId`.
    pub operation: String,
    /// Method, for a route that no contract describes.
    #[serde(default)]
    pub method: Option<String>,
    /// Path with `{parameters}`, for a route that no contract describes.
    #[serde(default)]
    pub path: Option<String>,
    /// Time before the first byte of the reply.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// Calls that are served; others are answered 429.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// What the `Idempotency-Key` header means.
    #[serde(default)]
    pub idempotency: Policy,
    /// Keeps replies of this route under their `id`, for routes that `load` them.
    #[serde(default)]
    pub store: Option<String>,
    /// Answers with what was stored under the path's last parameter, or 404.
    #[serde(default)]
    pub load: Option<String>,
    /// Reply when no rule fires; with a contract, its example or a generated one when this is missing.
    #[serde(default)]
    pub reply: Option<Reply>,
    /// The first rule whose condition holds and whose schedule fires decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

impl Route {
    /// An operation of a contract without rules of its own.
    pub fn plain(operation: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            method: None,
            path: None,
            latency: None,
            quota: None,
            idempotency: Policy::Ignored,
            store: None,
            load: None,
            reply: None,
            rules: Vec::new(),
        }
    }
}

/// One rule: a condition, a schedule, and either a fault or a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Condition.
    #[serde(default)]
    pub when: When,
    /// Which of the calls that meet the condition.
    #[serde(default)]
    pub schedule: Schedule,
    /// State of the caller afterwards.
    #[serde(default)]
    pub then_state: Option<String>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// What is answered.
    #[serde(default)]
    pub reply: Option<Reply>,
}

/// A condition: all of its parts hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The caller is in this state; every caller begins in `start`.
    #[serde(default)]
    pub state: Option<String>,
    /// Query parameters with these values.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers with these values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Values in the JSON body, by JSON pointer.
    #[serde(default)]
    pub body: BTreeMap<String, Value>,
}

/// A well-formed reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Status, 200 to 599.
    pub status: u16,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body, as JSON.
    #[serde(default)]
    pub body: Option<Value>,
    /// Whether the body is the request itself, as JSON: method, path, query, headers and body.
    #[serde(default)]
    pub echo: bool,
}
