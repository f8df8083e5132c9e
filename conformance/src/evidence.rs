//! What went over the wire, as a report shows it: redacted, cut to a size, with times.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use reports::model::conformance::Exchange;

use crate::redact::Secrets;
use crate::sdk::lines::Line;
use crate::sdk::pins::Pin;
use crate::sdk::scenario::Played;
use crate::wire::http1::{HttpError, Opened};
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// Bytes of a body that are kept.
const BODY: usize = 2_048;
/// Exchanges of a check that are kept: its first and its last ones.
const EXCHANGES: usize = 24;

/// Takes down the exchanges of one check.
#[derive(Clone, Debug)]
pub struct Recorder {
    secrets: Secrets,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    /// An empty one.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            exchanges: Arc::default(),
        }
    }

    /// The secrets that it takes out.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// All so far, without secrets: those that were learnt late included.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let held = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .map(|exchange| Exchange {
                request: self.secrets.text(&exchange.request),
                request_body: self.secrets.text(&exchange.request_body),
                response_body: self.secrets.text(&exchange.response_body),
                ..exchange.clone()
            })
            .collect()
    }

    /// An exchange that is over.
    pub fn done(&self, request: &Request, since: Instant, result: &Result<Reply, HttpError>) {
        let mut exchange = self.asked(request, since);
        match result {
            Ok(reply) => {
                self.secrets.learn(&reply.body);
                exchange.status = Some(reply.status.as_u16());
                exchange.response_headers = self.lines(&reply.headers);
                exchange.response_body = cut(&reply.body);
            }
            Err(error) => exchange.error = Some(error.to_string()),
        }
        self.keep(exchange);
    }

    /// An exchange whose body is a stream; its pieces are told as they come.
    pub fn opened(
        &self,
        request: &Request,
        since: Instant,
        result: &Result<Opened, HttpError>,
    ) -> Streamed {
        let mut exchange = self.asked(request, since);
        match result {
            Ok(opened) => {
                exchange.status = Some(opened.status.as_u16());
                exchange.response_headers = self.lines(&opened.headers);
            }
            Err(error) => exchange.error = Some(error.to_string()),
        }
        Streamed {
            recorder: self.clone(),
            index: self.keep(exchange),
        }
    }

    /// A scenario that an SDK ran: its program stands for the request, what it printed on this step for the answer.
    pub fn played(&self, pin: &Pin, topic: &str, line: Option<&Line>, played: &Played) {
        let printed = line.map(|line| {
            format!(
                "ok: {:?}\nexpected: {}\nactual: {}\n{}",
                line.ok, line.expected, line.actual, line.detail
            )
        });
        let mut response_body = printed.unwrap_or_default();
        if line.is_none() && !played.stderr.is_empty() {
            response_body.push_str(&played.stderr);
        }
        self.keep(Exchange {
            request: format!("scenario {topic} with {} ({})", pin.name, pin.versions()),
            request_headers: played.env.clone(),
            request_body: String::new(),
            status: None,
            response_headers: Vec::new(),
            response_body: cut(response_body.as_bytes()),
            error: played.late.map(|limit| format!("killed after {limit:?}")),
            ms: line.map_or(0.0, |line| line.ms),
        });
    }

    fn asked(&self, request: &Request, since: Instant) -> Exchange {
        let host = request
            .host
            .as_ref()
            .map(|host| format!(" (Host: {host})"))
            .unwrap_or_default();
        Exchange {
            request: format!(
                "{} {}{}{host}",
                request.method, request.origin, request.path
            ),
            request_headers: request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", self.secrets.header(name, value)))
                .collect(),
            request_body: cut(&request.body),
            status: None,
            response_headers: Vec::new(),
            response_body: String::new(),
            error: None,
            ms: since.elapsed().as_secs_f64() * 1_000.0,
        }
    }

    fn lines(&self, headers: &http::HeaderMap) -> Vec<String> {
        headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                format!("{name}: {}", self.secrets.header(name.as_str(), &value))
            })
            .collect()
    }

    fn keep(&self, exchange: Exchange) -> usize {
        let mut held = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if held.len() >= EXCHANGES {
            held.remove(EXCHANGES / 2);
        }
        held.push(exchange);
        held.len() - 1
    }
}

/// Where the pieces of a stream are told.
#[derive(Debug)]
pub struct Streamed {
    recorder: Recorder,
    index: usize,
}

impl Streamed {
    /// A piece came.
    pub fn came(&self, piece: &[u8]) {
        let mut held = self
            .recorder
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = held.get_mut(self.index)
            && exchange.response_body.len() < BODY
        {
            exchange.response_body.push_str(&cut(piece));
        }
    }
}

fn cut(body: &[u8]) -> String {
    let kept = &body[..body.len().min(BODY)];
    // Control characters of frames would make a report unreadable, and NUL makes XML invalid.
    let text: String = String::from_utf8_lossy(kept)
        .chars()
        .map(|c| {
            if c.is_control() && !"\n\t".contains(c) {
                '·'
            } else {
                c
            }
        })
        .collect();
    if body.len() > BODY {
        format!("{text}… ({} bytes)", body.len())
    } else {
        text
    }
}
