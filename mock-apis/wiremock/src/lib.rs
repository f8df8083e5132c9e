//! The faults of `mock-apis` as responders of the `wiremock` crate, for unit tests that use it already.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use mock_apis::fault::Fault;
//! use mock_apis::fault::rate_limited::RateLimited;
//! use mock_apis::pure::schedule::Schedule;
//! use mock_apis_wiremock::Faulty;
//! use wiremock::matchers::{method, path};
//! use wiremock::{Mock, MockServer, ResponseTemplate};
//!
//! let server = MockServer::start().await;
//! let seed = 42;
//! let limited = Faulty::new(Fault::RateLimited(RateLimited::default()), Schedule::First(2), seed)?
//!     .otherwise(ResponseTemplate::new(200).set_body_json(serde_json::json!({"id": "LH-100"})));
//! Mock::given(method("GET")).and(path("/flights/LH-100")).respond_with(limited).mount(&server).await;
//! // Two calls get 429 with Retry-After, later ones 200.
//! # Ok::<(), mock_apis_wiremock::NotPlain>(()) }).unwrap();
//! ```
//!
//! What a fault draws depends on the seed and the number of the call, as in a scenario. `wiremock` sends well-formed replies only: faults
//! of the bare connection (resets, truncated or dribbled bodies, hangs …) are refused by [`Faulty::new`], and are served by
//! [`Server::local`](mock_apis::Server::local).

#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::{HeaderName, HeaderValue};
use mock_apis::fault::{Act, Fault, Reply, Scene};
use mock_apis::pure::schedule::{Schedule, ScheduleError};
use mock_apis::pure::seed;
use serde_json::Value;
use wiremock::{Request, Respond, ResponseTemplate};

/// Why a fault cannot be a responder.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotPlain {
    /// It needs the connection.
    #[error(
        "`{0}` is no plain reply: it needs the bare connection, which wiremock does not give; mock_apis::Server::local serves it"
    )]
    Raw(&'static str),
    /// A schedule that is none.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// A fault on schedule; calls that it leaves alone get another reply, 200 without a body unless said otherwise.
#[derive(Debug)]
pub struct Faulty {
    fault: Fault,
    schedule: Schedule,
    seed: u64,
    otherwise: ResponseTemplate,
    normal: Reply,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    count: u64,
    /// First call: time of schedules begins with it.
    began: Option<Instant>,
}

impl Faulty {
    /// `fault` at the calls that `schedule` chooses. Times of a schedule count from the first call.
    pub fn new(fault: Fault, schedule: Schedule, seed: u64) -> Result<Self, NotPlain> {
        schedule.check()?;
        let normal = Reply::json(200, "application/json", &serde_json::json!({}));
        if let Act::Raw(_) = act(&fault, &normal, "/", seed, 1) {
            return Err(NotPlain::Raw(fault.name()));
        }
        Ok(Self {
            fault,
            schedule,
            seed,
            otherwise: ResponseTemplate::new(200),
            normal,
            calls: Mutex::default(),
        })
    }

    /// The reply of calls that the schedule leaves alone.
    #[must_use]
    pub fn otherwise(mut self, reply: ResponseTemplate) -> Self {
        self.otherwise = reply;
        self
    }

    /// The JSON that faults about content change (`breaks_schema`, `malformed_json`, `plausible_but_wrong` …), and the reply of calls
    /// that the schedule leaves alone.
    #[must_use]
    pub fn normal(mut self, status: u16, body: &Value) -> Self {
        self.normal = Reply::json(status, "application/json", body);
        self.otherwise = template(&self.normal);
        self
    }
}

impl Respond for Faulty {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let (n, at) = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.count += 1;
            (
                calls.count,
                calls.began.get_or_insert_with(Instant::now).elapsed(),
            )
        };
        let mut rng = seed::generator(self.seed, &["wiremock", "schedule"], n);
        if !self.schedule.fires(n, at, seed::unit(&mut rng)) {
            return self.otherwise.clone();
        }
        match act(&self.fault, &self.normal, request.url.path(), self.seed, n) {
            Act::Reply(reply) => template(&reply),
            // Tried when it was made; a fault does not change its kind by what it is asked.
            Act::Raw(_) => ResponseTemplate::new(500)
                .set_body_string(NotPlain::Raw(self.fault.name()).to_string()),
        }
    }
}

fn act(fault: &Fault, normal: &Reply, path: &str, seed: u64, n: u64) -> Act {
    fault.act(&mut Scene {
        normal,
        rng: &mut seed::generator(seed, &["wiremock", "fault"], n),
        now: SystemTime::now(),
        path,
        keeps_schema: &|_| None,
    })
}

fn template(reply: &Reply) -> ResponseTemplate {
    let kind = reply
        .header("content-type")
        .unwrap_or("application/octet-stream");
    let mut template = ResponseTemplate::new(reply.status);
    if !reply.body.is_empty() {
        template = template.set_body_raw(reply.body.to_vec(), kind);
    }
    for (name, value) in &reply.headers {
        // Set with the body.
        if name.eq_ignore_ascii_case("content-type") {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            template = template.append_header(name, value);
        }
    }
    template
}
