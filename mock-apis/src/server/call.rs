//! One request through the engine and into the journal.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{MAX_BODY, Peer, READ_TIMEOUT, Script, Shared, millis};
use crate::engine::{Call, Decision, Ticket};
use crate::fault::{Act, Reply};
use crate::journal::{Entry, How, Place};

/// Answers a request, or hands the connection to a script and never returns.
pub async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    peer: Peer,
    service: Option<usize>,
    scripts: mpsc::Sender<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let collected =
        tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let body = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Ok(close(Reply::problem(413, "Content Too Large", Value::Null))),
        Err(_) => return Ok(close(Reply::problem(408, "Request Timeout", Value::Null))),
    };
    let headers: BTreeMap<String, String> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let caller = peer.caller(&shared.identity, &headers);

    let (mut decision, place) = match decide(&shared, service, caller, &parts, headers, body) {
        Ok(decided) => decided,
        Err(reply) => return Ok(response(reply)),
    };
    let mut left = Unfinished {
        shared: Arc::clone(&shared),
        ticket: decision.ticket.take(),
        place,
        how: How::ClientLeft,
    };
    if !decision.latency.is_zero() {
        tokio::time::sleep(decision.latency).await;
    }
    match decision.act {
        Act::Reply(reply) => {
            left.how = How::Sent;
            Ok(response(reply))
        }
        Act::Raw(steps) => {
            left.place = None;
            drop(left);
            // Nobody takes it only when the connection is gone already.
            let _ = scripts.send((steps, place)).await;
            std::future::pending().await
        }
    }
}

/// Decides and notes it down, in one turn: the journal has the order of the decisions.
fn decide(
    shared: &Shared,
    service: Option<usize>,
    caller: String,
    parts: &http::request::Parts,
    headers: BTreeMap<String, String>,
    body: Bytes,
) -> Result<(Decision, Option<Place>), Reply> {
    let host = headers.get("host").map_or("", String::as_str);
    let label = host.split(['.', ':']).next().unwrap_or("");
    let mut state = shared.lock();
    let Some(service) = service.or_else(|| state.engine.service(label)) else {
        let detail = "the first label of the host name is the name of no service";
        return Err(Reply::problem(
            404,
            "Not Found",
            serde_json::json!({"detail": detail}),
        ));
    };
    let call = Call {
        caller,
        service,
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers,
        body,
    };
    let at = state.started.elapsed();
    let decision = state.engine.decide(&call, at, SystemTime::now());
    let name = &state.engine.scenario.services[service].name;
    let entry = Entry::new(&call, name, &decision, millis(at), &shared.secrets);
    let place = state.journal.append(entry);
    Ok((decision, place))
}

/// Ends a call when it is dropped: also when the client leaves while the reply is held back. The work is done either way.
struct Unfinished {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    place: Option<Place>,
    how: How,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.lock().engine.finish(ticket);
        }
        self.shared.end(self.place, self.how);
    }
}

fn close(reply: Reply) -> Response<Full<Bytes>> {
    response(reply.with("connection", "close"))
}

/// A reply for the HTTP stack. Headers were checked with the scenario; one that is none all the same is left out.
pub fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::try_from(name),
            http::HeaderValue::try_from(value),
        ) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
