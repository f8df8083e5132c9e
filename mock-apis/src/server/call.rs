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
use crate::engine::{Call, Decision, Face, Ticket};
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
    let (parts, body) = match read(request).await {
        Ok(read) => read,
        Err(refused) => return Ok(refused),
    };
    let headers = headers(&parts);
    let caller = peer.caller(&shared, &headers);
    let label = label(headers.get("host").map_or("", String::as_str));
    let Some(service) = service.or_else(|| shared.lock().engine.service(label)) else {
        let detail = "the first label of the host name is the name of no service";
        let detail = serde_json::json!({ "detail": detail });
        return Ok(response(Reply::problem(404, "Not Found", detail)));
    };
    let call = Call {
        face: Face::Http,
        caller,
        service,
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        headers,
        body,
    };
    let (decision, left) = decide(&shared, &call);
    if !decision.latency.is_zero() {
        tokio::time::sleep(decision.latency).await;
    }
    play(decision.act, left, &scripts).await
}

/// Lets a reply go out, or hands the connection to a script and never returns.
pub async fn play(
    act: Act,
    left: Unfinished,
    scripts: &mpsc::Sender<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match act {
        Act::Reply(reply) => {
            left.sent();
            Ok(response(reply))
        }
        Act::Raw(steps) => {
            let place = left.release();
            // Nobody takes it only when the connection is gone already.
            let _ = scripts.send((steps, place)).await;
            std::future::pending().await
        }
    }
}

/// The whole request, or the reply that refuses it.
pub async fn read(
    request: Request<Incoming>,
) -> Result<(http::request::Parts, Bytes), Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let collected =
        tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok((parts, body.to_bytes())),
        Ok(Err(_)) => Err(close(Reply::problem(413, "Content Too Large", Value::Null))),
        Err(_) => Err(close(Reply::problem(408, "Request Timeout", Value::Null))),
    }
}

/// The first label of a host name, which says what is called at the front.
pub fn label(host: &str) -> &str {
    host.split(['.', ':']).next().unwrap_or("")
}

/// Names in small letters; what is no UTF-8 is replaced.
pub fn headers(parts: &http::request::Parts) -> BTreeMap<String, String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// Decides and notes it down, in one turn: the journal has the order of the decisions.
pub fn decide(shared: &Arc<Shared>, call: &Call) -> (Decision, Unfinished) {
    let mut state = shared.lock();
    let at = state.started.elapsed();
    let mut decision = state.engine.decide(call, at, SystemTime::now());
    let name = &state.engine.scenario.services[call.service].name;
    let entry = Entry::new(call, name, &decision, millis(at), &shared.secrets);
    let place = state.journal.append(entry);
    let ticket = decision.ticket.take();
    (decision, Unfinished::new(shared, ticket, place))
}

/// Notes down a call that never gets to the engine.
pub fn refuse(shared: &Arc<Shared>, call: &Call, service: &str, decision: &Decision) -> Unfinished {
    let mut state = shared.lock();
    let at = millis(state.started.elapsed());
    let entry = Entry::new(call, service, decision, at, &shared.secrets);
    let place = state.journal.append(entry);
    Unfinished::new(shared, None, place)
}

/// Ends a call when it is dropped: also when the client leaves while the reply is held back. The work is done either way.
#[derive(Debug)]
pub struct Unfinished {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    place: Option<Place>,
    how: How,
}

impl Unfinished {
    fn new(shared: &Arc<Shared>, ticket: Option<Ticket>, place: Option<Place>) -> Self {
        Self {
            shared: Arc::clone(shared),
            ticket,
            place,
            how: How::ClientLeft,
        }
    }

    /// The reply goes out.
    pub fn sent(mut self) {
        self.how = How::Sent;
    }

    /// The work is done, and whoever takes the place says how the call ended.
    pub fn release(mut self) -> Option<Place> {
        self.place.take()
    }
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
