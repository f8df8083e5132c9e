//! The MCP face on the wire: rmcp speaks the protocol, and what it says passes here on its way out.
//!
//! What rmcp runs for a call only decides: whatever takes time, or takes the connection, is done by the connection's own task, which ends
//! with its client.

use std::collections::BTreeMap;
use std::convert::Infallible;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use loadgen::e2b::api::percent;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::tool::{LONGEST, Tool};
use super::{PATH, arguments, result, tools};
use crate::engine::{Call, Decision, Engine, Face};
use crate::fault::{Act, OnMessage, Reply};
use crate::near_miss;
use crate::server::call::{self, Unfinished};
use crate::server::{MAX_BODY, Peer, Script, Shared};

/// Most messages that are read and decided about at once. In memory a message may be thirty times as large as on the wire; deciding does not
/// wait, so nobody waits long for room.
const ROOM: usize = 64;

/// The MCP server of a scenario.
pub struct Mcp {
    service: StreamableHttpService<Handler, NeverSessionManager>,
    room: Semaphore,
}

impl std::fmt::Debug for Mcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mcp").finish_non_exhaustive()
    }
}

impl Mcp {
    /// With the operations of `engine` as tools.
    pub fn new(engine: &Engine) -> Self {
        let tools = tools(engine);
        let listed = tools.iter().map(listed).collect();
        let handler = Handler {
            tools: Arc::new(tools),
            listed: Arc::new(listed),
        };
        let mut config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(MAX_BODY)
            // Sandboxes know it by other names than localhost, and there is nothing here that a web page could steal.
            .disable_allowed_hosts();
        config.sse_keep_alive = None;
        let sessions = Arc::new(NeverSessionManager::default());
        Self {
            service: StreamableHttpService::new(move || Ok(handler.clone()), sessions, config),
            room: Semaphore::new(ROOM),
        }
    }

    /// Answers a request, or hands the connection to a script and never returns.
    pub(crate) async fn answer(
        &self,
        shared: Arc<Shared>,
        request: Request<Incoming>,
        peer: Peer,
        scripts: mpsc::Sender<Script>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (mut parts, body) = match call::read(request).await {
            Ok(read) => read,
            Err(refused) => return Ok(refused),
        };
        if parts.uri.path() != PATH {
            let detail = json!({"detail": format!("the MCP server is at {PATH}")});
            return Ok(call::response(Reply::problem(404, "Not Found", detail)));
        }
        let headers = call::headers(&parts);
        let turn = Turn {
            caller: peer.caller(&shared, &headers),
            shared,
            headers: Arc::new(headers),
            decided: Arc::default(),
        };
        parts.extensions.insert(turn.clone());
        let request = Request::from_parts(parts, Full::new(body));
        let message = {
            // It is never closed.
            let _permit = self.room.acquire().await;
            received(self.service.handle(request).await).await
        };
        let Some(decided) = turn.decided() else {
            return Ok(call::response(message));
        };
        if !decided.latency.is_zero() {
            tokio::time::sleep(decided.latency).await;
        }
        let act = match (decided.script, decided.message) {
            (Some(act), _) => act,
            (None, Some(fault)) => fault.act(&message, PATH),
            (None, None) => Act::Reply(message),
        };
        call::play(act, decided.left, &scripts).await
    }
}

/// A response of rmcp's, as a reply whose bytes faults can work on.
async fn received<B>(response: Response<B>) -> Reply
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible>,
{
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let mut reply = Reply::new(parts.status.as_u16()).body(body);
    for (name, value) in &parts.headers {
        // The length is added when it is sent.
        if name != http::header::CONTENT_LENGTH {
            reply = reply.with(name.as_str(), String::from_utf8_lossy(value.as_bytes()));
        }
    }
    reply
}

/// One HTTP request of the face, on its way through rmcp.
#[derive(Clone)]
struct Turn {
    shared: Arc<Shared>,
    caller: String,
    headers: Arc<BTreeMap<String, String>>,
    decided: Arc<Mutex<Option<Decided>>>,
}

/// What is left to do about a call when its message is there.
struct Decided {
    latency: Duration,
    message: Option<OnMessage>,
    script: Option<Act>,
    left: Unfinished,
}

impl Turn {
    fn decided(&self) -> Option<Decided> {
        let mut slot = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }

    /// Leaves the rest to the connection's task; the reply is what the tool says.
    fn decide(&self, decision: Decision, left: Unfinished) -> Reply {
        let (reply, script) = match decision.act {
            Act::Reply(reply) => (reply, None),
            raw @ Act::Raw(_) => (Reply::new(204), Some(raw)),
        };
        let decided = Decided {
            latency: decision.latency,
            message: decision.message,
            script,
            left,
        };
        let mut slot = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(decided);
        reply
    }

    /// A call as far as the connection decides about it.
    fn call(&self) -> Call {
        let mut headers = (*self.headers).clone();
        headers.retain(|name, _| !of_transport(name));
        Call {
            face: Face::Mcp,
            caller: self.caller.clone(),
            service: 0,
            method: String::new(),
            path: String::new(),
            query: String::new(),
            headers,
            body: Bytes::new(),
        }
    }

    /// The call of a tool.
    fn run(&self, tool: &Tool, given: &Map<String, Value>) -> CallToolResult {
        let mut call = self.call();
        call.service = tool.service;
        call.method.clone_from(&tool.method);
        let (decision, left) = match arguments::request(tool, given) {
            Ok(request) => {
                (call.path, call.query) = (request.path, request.query);
                call.headers.extend(request.headers);
                call.body = request.body;
                call::decide(&self.shared, &call)
            }
            Err(wrong) => {
                call.path = tool.template.to_string();
                call.body = text(given);
                let operation = Some(tool.operation.clone());
                let reply = arguments::refusal(&wrong);
                let decision = Decision::refused(operation, reply, Vec::new());
                let left = call::refuse(&self.shared, &call, &tool.service_name, &decision);
                (decision, left)
            }
        };
        result::result(&self.decide(decision, left))
    }

    /// The call of a tool that does not exist.
    fn miss(&self, name: &str, near: Vec<String>, given: &Map<String, Value>) {
        let mut call = self.call();
        call.method = "tools/call".to_owned();
        let name: String = name.chars().take(LONGEST).collect();
        call.path = format!("/{}", percent(&name));
        call.body = text(given);
        let reply = Reply::problem(404, "Not Found", json!({"detail": "no such tool"}));
        let decision = Decision::refused(None, reply, near);
        let left = call::refuse(&self.shared, &call, "", &decision);
        self.decide(decision, left);
    }
}

fn text(given: &Map<String, Value>) -> Bytes {
    serde_json::to_vec(given).unwrap_or_default().into()
}

/// Whether a header is about the message and not about the call.
fn of_transport(name: &str) -> bool {
    let message = [
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "last-event-id",
        "transfer-encoding",
    ];
    message.contains(&name) || name.starts_with("mcp-")
}

#[derive(Clone)]
struct Handler {
    tools: Arc<Vec<Tool>>,
    listed: Arc<Vec<rmcp::model::Tool>>,
}

fn listed(tool: &Tool) -> rmcp::model::Tool {
    let reads = matches!(tool.method.as_str(), "GET" | "HEAD" | "OPTIONS");
    let again = reads || matches!(tool.method.as_str(), "PUT" | "DELETE");
    let hints = ToolAnnotations::new().read_only(reads).idempotent(again);
    rmcp::model::Tool::new(tool.name.clone(), tool.about.clone(), tool.input_schema())
        .with_annotations(hints)
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder().enable_tools().build();
        let name = Implementation::new("mock-apis", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(tools).with_server_info(name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items((*self.listed).clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let parts = context.extensions.get::<Parts>();
        let Some(turn) = parts.and_then(|parts| parts.extensions.get::<Turn>()) else {
            return Err(ErrorData::internal_error("a call without a request", None));
        };
        let given = request.arguments.unwrap_or_default();
        let found = self
            .tools
            .binary_search_by(|tool| tool.name.as_str().cmp(&request.name));
        match found {
            Ok(index) => Ok(turn.run(&self.tools[index], &given).into()),
            Err(_) => {
                let known = self.tools.iter().map(|tool| tool.name.as_str());
                let near = near_miss::names(&request.name, known);
                turn.miss(&request.name, near, &given);
                Err(ErrorData::invalid_params("there is no such tool", None))
            }
        }
    }
}
