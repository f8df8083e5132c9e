//! The admin API, at an address of its own that no guest reaches.
//!
//! | | |
//! |---|---|
//! | `GET /journal?caller=NAME` | the journal, one JSON object per line |
//! | `GET /journal.har` | the journal as an HTTP archive |
//! | `GET /faults` | the catalogue |
//! | `GET /metrics` | counters in Prometheus form |
//! | `POST /reset` | forgets calls, callers and time |

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::call::response;
use super::{READ_TIMEOUT, Shared, State};
use crate::contract::template::query;
use crate::fault::{Fault, Reply};
use crate::journal::har;

pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut stopped = shared.stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let handler = service_fn(move |request| answer(Arc::clone(&shared), request));
            let http = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), handler);
            let _ = http.await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = query(request.uri().query().unwrap_or(""));
    let caller = query
        .iter()
        .find(|(name, _)| name == "caller")
        .map(|(_, value)| value.as_str());
    let state = shared.lock();
    let text = |kind: &str, body: String| Reply::new(200).with("content-type", kind).body(body);
    let reply = match (request.method(), request.uri().path()) {
        (&Method::GET, "/journal") => text("application/jsonl", state.journal.jsonl(caller)),
        (&Method::GET, "/journal.har") => {
            let start = jiff::Timestamp::try_from(state.started_at).unwrap_or_default();
            Reply::json(
                200,
                "application/json",
                &har::archive(&state.journal, start),
            )
        }
        (&Method::GET, "/faults") => {
            let all: serde_json::Map<String, Value> = Fault::ALL
                .iter()
                .map(|(name, about)| ((*name).to_owned(), json!(about)))
                .collect();
            Reply::json(200, "application/json", &Value::Object(all))
        }
        (&Method::GET, "/metrics") => text("text/plain; version=0.0.4", metrics(&state)),
        (&Method::POST, "/reset") => {
            drop(state);
            shared.reset();
            Reply::new(204)
        }
        _ => Reply::problem(404, "Not Found", Value::Null),
    };
    Ok(response(reply))
}

fn metrics(state: &State) -> String {
    let mut counts = std::collections::BTreeMap::<(&str, &str, &str), u64>::new();
    for entry in state.journal.entries() {
        let key = (
            entry.service.as_str(),
            entry.operation.as_deref().unwrap_or(""),
            entry.fault.as_deref().unwrap_or(""),
        );
        *counts.entry(key).or_default() += 1;
    }
    let mut text =
        "# HELP mock_apis_calls Calls in the journal.\n# TYPE mock_apis_calls gauge\n".to_owned();
    for ((service, operation, fault), count) in counts {
        text += &format!(
            "mock_apis_calls{{service={service:?},operation={operation:?},fault={fault:?}}} {count}\n"
        );
    }
    let lost = state.journal.lost();
    text + &format!(
        "# HELP mock_apis_calls_lost Calls that a full journal did not keep.\n# TYPE mock_apis_calls_lost counter\nmock_apis_calls_lost {lost}\n"
    )
}
