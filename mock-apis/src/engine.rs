//! From a call to what is done about it. Knows no clock, socket or lock: the same calls at the same times get the same decisions.
//!
//! ```text
//! call ─► route (404, 405) ─► quota (429) ─► rules ─┬─► a fault ───────────────────────────────────────────► act
//!                                                   └─► authorize ─► check ─► idempotency ─► reply ─► (fault that works) ─► act
//! ```
//!
//! A fault that does no work is decided before the contract is asked: an outage does not look at the request.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::contract::request::Parts;
use crate::contract::template::{self, Template};
use crate::contract::{Contract, ContractError, Operation, authorize, request};
use crate::fault::{Act, OnMessage, Reply, Scene};
use crate::pure::bounded::Bounded;
use crate::pure::idempotency::{Admission, Store};
use crate::pure::quota::{Quota, State, Taken};
use crate::pure::seed;
use crate::scenario::Scenario;
use crate::scenario::model::{self, Route, Rule, When};

/// Most callers, keys and stored resources that are remembered, each.
const REMEMBERED: usize = 65_536;

/// Where a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Face {
    /// As HTTP.
    #[default]
    Http,
    /// As a tool of the MCP server.
    Mcp,
}

/// One request, as the engine sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it came in.
    pub face: Face,
    /// Who calls.
    pub caller: String,
    /// Index of the service.
    pub service: usize,
    /// Method.
    pub method: String,
    /// Path, not decoded.
    pub path: String,
    /// Query, not decoded.
    pub query: String,
    /// Headers, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Bytes,
}

/// What is done about a call.
#[derive(Debug)]
pub struct Decision {
    /// Operation, when a route was found.
    pub operation: Option<String>,
    /// Index of the rule that decided.
    pub rule: Option<usize>,
    /// Name of the fault.
    pub fault: Option<&'static str>,
    /// Time before the first byte.
    pub latency: Duration,
    /// What goes out.
    pub act: Act,
    /// What then happens to the message that wraps the reply; only on the MCP face.
    pub message: Option<OnMessage>,
    /// To be reported with [`Engine::finish`] when the latency is over.
    pub ticket: Option<Ticket>,
    /// Routes that nearly matched, each with what was wrong.
    pub near_misses: Vec<String>,
}

impl Decision {
    /// Of a call that goes no further.
    pub fn refused(operation: Option<String>, reply: Reply, near_misses: Vec<String>) -> Self {
        Self {
            operation,
            rule: None,
            fault: None,
            latency: Duration::ZERO,
            act: Act::Reply(reply),
            message: None,
            ticket: None,
            near_misses,
        }
    }
}

/// A call whose idempotency key waits for its reply.
#[derive(Debug)]
pub struct Ticket {
    scope: String,
    key: String,
    reply: Reply,
}

/// A scenario at work.
#[derive(Debug)]
pub struct Engine {
    /// The scenario.
    pub scenario: Scenario,
    services: Vec<Vec<Target>>,
    hits: Bounded<String, u64>,
    quotas: Bounded<String, State>,
    states: Bounded<String, String>,
    keys: Store<Reply>,
    stored: Bounded<String, Reply>,
}

/// One operation of a service.
#[derive(Debug)]
pub(crate) struct Target {
    pub operation: String,
    pub method: String,
    pub template: Template,
    pub route: Route,
    pub contract: Option<Operation>,
}

/// Why a scenario cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A route of an operation that the contract does not have.
    #[error("service `{service}`: the contract has no operation `{operation}`")]
    Operation {
        /// The service.
        service: String,
        /// The operation.
        operation: String,
    },
}

impl Engine {
    /// Makes `scenario` ready; contracts are read from `folder`.
    pub fn new(scenario: Scenario, folder: &Path) -> Result<Self, EngineError> {
        let services = scenario
            .services
            .iter()
            .map(|service| targets(service, folder, scenario.seed))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            scenario,
            services,
            hits: Bounded::new(REMEMBERED),
            quotas: Bounded::new(REMEMBERED),
            states: Bounded::new(REMEMBERED),
            keys: Store::new(REMEMBERED),
            stored: Bounded::new(REMEMBERED),
        })
    }

    /// Forgets all callers.
    pub fn reset(&mut self) {
        self.hits = Bounded::new(REMEMBERED);
        self.quotas = Bounded::new(REMEMBERED);
        self.states = Bounded::new(REMEMBERED);
        self.keys = Store::new(REMEMBERED);
        self.stored = Bounded::new(REMEMBERED);
    }

    /// Index of the service of this name.
    pub fn service(&self, name: &str) -> Option<usize> {
        self.scenario
            .services
            .iter()
            .position(|service| service.name == name)
    }

    /// All operations, each with the index of its service.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (usize, &Target)> {
        let services = self.services.iter().enumerate();
        services.flat_map(|(service, targets)| targets.iter().map(move |target| (service, target)))
    }

    /// The work of a call is over.
    pub fn finish(&mut self, ticket: Ticket) {
        self.keys.finish(&ticket.scope, &ticket.key, ticket.reply);
    }

    /// Decides about `call`, `at` after the start; `now` is for dates in headers only.
    pub fn decide(&mut self, call: &Call, at: Duration, now: SystemTime) -> Decision {
        let service = &self.scenario.services[call.service];
        let targets = &self.services[call.service];
        let (target, parameters) = match find(targets, call) {
            Ok(found) => found,
            Err((reply, near)) => return Decision::refused(None, reply, near),
        };
        let operation = Some(target.operation.clone());
        let mut decision = Decision::refused(operation, Reply::new(404), Vec::new());
        let place = format!("{}.{}", service.name, target.operation);

        let n = count(&mut self.hits, &format!("{place}\n{}", call.caller));
        let mut rng = seed::generator(self.scenario.seed, &[&place, &call.caller], n);
        if let Some(latency) = target.route.latency.as_ref().or(service.latency.as_ref()) {
            decision.latency = latency.draw(&mut rng);
        }
        let quotas = [
            (&service.quota, service.name.as_str()),
            (&target.route.quota, place.as_str()),
        ];
        for (quota, name) in quotas {
            if let Some(taken) = quota
                .as_ref()
                .map(|it| take(&mut self.quotas, it, name, &call.caller, at))
                && !taken.allowed
            {
                (decision.act, decision.fault) = (Act::Reply(over(taken)), Some("quota"));
                return decision;
            }
        }

        let state = self
            .states
            .get(&call.caller)
            .map_or("start", String::as_str);
        let mut chosen: Option<(usize, &Rule)> = None;
        for (i, rule) in target.route.rules.iter().enumerate() {
            if meets(&rule.when, call, state) {
                let n = count(&mut self.hits, &format!("{place}#{i}\n{}", call.caller));
                if rule.schedule.fires(n, at, seed::unit(&mut rng)) {
                    chosen = Some((i, rule));
                    break;
                }
            }
        }
        decision.rule = chosen.map(|(i, _)| i);
        let fault = chosen.and_then(|(_, rule)| rule.fault.as_ref());
        decision.fault = fault.map(crate::fault::Fault::name);

        let own = chosen
            .and_then(|(_, rule)| rule.reply.as_ref())
            .or(target.route.reply.as_ref());
        let normal = match (own, &target.contract) {
            (Some(reply), _) => from_model(reply, call),
            (None, Some(operation)) => operation.success.reply.clone(),
            (None, None) => Reply::new(404),
        };
        let works = fault.is_none_or(crate::fault::Fault::works);
        let answer = if works {
            let (reply, ticket) = work(
                target,
                service,
                call,
                &parameters,
                normal,
                &mut Work {
                    keys: &mut self.keys,
                    stored: &mut self.stored,
                    place: &place,
                },
            );
            decision.ticket = ticket;
            reply
        } else {
            normal
        };
        decision.act = match fault {
            // What the contract refuses, a fault that does the work has nothing to do with.
            Some(fault) if call.face == Face::Mcp && fault.on_message() => {
                let fault = fault.clone();
                decision.message = Some(OnMessage { fault, rng, now });
                Act::Reply(answer)
            }
            Some(fault) if !works || answer.status < 300 => {
                let schema = target
                    .contract
                    .as_ref()
                    .and_then(|it| it.success.schema.as_ref());
                let keeps_schema = |value: &Value| schema.map(|schema| schema.is_valid(value));
                fault.act(&mut Scene {
                    normal: &answer,
                    rng: &mut rng,
                    now,
                    path: &call.path,
                    keeps_schema: &keeps_schema,
                })
            }
            _ => Act::Reply(answer),
        };
        if let Some(next) = chosen.and_then(|(_, rule)| rule.then_state.clone()) {
            *self.states.entry(&call.caller, String::new) = next;
        }
        decision
    }
}

fn targets(service: &model::Service, folder: &Path, seed: u64) -> Result<Vec<Target>, EngineError> {
    let mut routes = service.routes.clone();
    let mut all = Vec::new();
    if let Some(document) = &service.openapi {
        for operation in Contract::read(&folder.join(document), seed)?.operations {
            let own = routes
                .iter()
                .position(|route| route.operation == operation.id);
            let route = own
                .map(|i| routes.remove(i))
                .unwrap_or_else(|| model::Route::plain(&operation.id));
            all.push(Target {
                operation: operation.id.clone(),
                method: operation.method.clone(),
                template: operation.template.clone(),
                route,
                contract: Some(operation),
            });
        }
    }
    for route in routes {
        let (Some(method), Some(path)) = (route.method.clone(), route.path.clone()) else {
            let (service, operation) = (service.name.clone(), route.operation);
            return Err(EngineError::Operation { service, operation });
        };
        let (operation, template) = (route.operation.clone(), Template::new(&path));
        all.push(Target {
            operation,
            method,
            template,
            route,
            contract: None,
        });
    }
    all.sort_by_key(|target| std::cmp::Reverse(target.template.fixed()));
    Ok(all)
}

type Parameters = BTreeMap<String, String>;

fn find<'a>(
    targets: &'a [Target],
    call: &Call,
) -> Result<(&'a Target, Parameters), (Reply, Vec<String>)> {
    let here: Vec<_> = targets
        .iter()
        .filter_map(|target| Some((target, target.template.matches(&call.path)?)))
        .collect();
    let most = here
        .first()
        .map_or(0, |(target, _)| target.template.fixed());
    let exact = here
        .iter()
        .filter(|(target, _)| target.template.fixed() == most);
    if let Some(found) = exact
        .clone()
        .find(|(target, _)| target.method == call.method)
    {
        return Ok(found.clone());
    }
    if here.is_empty() {
        let near = crate::near_miss::explain(
            &call.path,
            targets
                .iter()
                .map(|target| (target.operation.as_str(), &target.template)),
        );
        return Err((
            Reply::problem(404, "Not Found", json!({"detail": "no such path"})),
            near,
        ));
    }
    let allowed = exact
        .map(|(target, _)| target.method.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let near = vec![format!("the path is right, the method is one of {allowed}")];
    Err((
        Reply::problem(405, "Method Not Allowed", Value::Null).with("allow", allowed),
        near,
    ))
}

struct Work<'a> {
    keys: &'a mut Store<Reply>,
    stored: &'a mut Bounded<String, Reply>,
    place: &'a str,
}

/// The call as the contract has it: let in, checked, done once, answered.
fn work(
    target: &Target,
    service: &model::Service,
    call: &Call,
    parameters: &Parameters,
    normal: Reply,
    memory: &mut Work<'_>,
) -> (Reply, Option<Ticket>) {
    if let Some(operation) = &target.contract {
        let query = template::query(&call.query);
        let parts = Parts {
            path: parameters,
            query: &query,
            headers: &call.headers,
            body: &call.body,
        };
        let refused = authorize::check(operation, &service.credentials, &call.headers)
            .or_else(|| request::check(operation, &parts));
        if let Some(reply) = refused {
            return (reply, None);
        }
    }
    if let Some(collection) = &target.route.load {
        let id = target
            .template
            .last_parameter()
            .and_then(|name| parameters.get(name));
        let key = format!(
            "{}\n{collection}\n{}",
            call.caller,
            id.map_or("", String::as_str)
        );
        let missing = || Reply::problem(404, "Not Found", json!({"detail": "no such resource"}));
        return (
            memory.stored.get(&key).cloned().unwrap_or_else(missing),
            None,
        );
    }
    let scope = format!("{}\n{}", memory.place, call.caller);
    let key = call.headers.get("idempotency-key").map(String::as_str);
    let digest = Sha256::digest(&call.body).into();
    let refuse = |status, title, detail: &str| {
        (
            Reply::problem(status, title, json!({"detail": detail})),
            None,
        )
    };
    match memory
        .keys
        .admit(target.route.idempotency, &scope, key, digest)
    {
        Admission::Missing => refuse(400, "Bad Request", "Idempotency-Key is required"),
        Admission::Malformed => refuse(400, "Bad Request", "Idempotency-Key has 1 to 255 bytes"),
        Admission::OtherBody => refuse(
            422,
            "Unprocessable Content",
            "Idempotency-Key was used with another body",
        ),
        Admission::InFlight => refuse(
            409,
            "Conflict",
            "a request with this Idempotency-Key is under way",
        ),
        Admission::Replay(reply) => (reply.with("idempotency-replayed", "true"), None),
        Admission::Work { tracked } => {
            if let Some(collection) = &target.route.store
                && let Some(id) = normal
                    .value()
                    .as_ref()
                    .and_then(|value| value["id"].as_str())
            {
                let kept = Reply {
                    status: 200,
                    ..normal.clone()
                };
                *memory
                    .stored
                    .entry(&format!("{}\n{collection}\n{id}", call.caller), || {
                        Reply::new(404)
                    }) = kept;
            }
            let ticket = tracked.then(|| Ticket {
                scope,
                key: key.unwrap_or("").to_owned(),
                reply: normal.clone(),
            });
            (normal, ticket)
        }
    }
}

fn count(hits: &mut Bounded<String, u64>, key: &String) -> u64 {
    let n = hits.entry(key, || 0);
    *n += 1;
    *n
}

fn take(
    states: &mut Bounded<String, State>,
    quota: &Quota,
    name: &str,
    caller: &str,
    at: Duration,
) -> Taken {
    let caller = if quota.shared { "" } else { caller };
    states
        .entry(&format!("{name}\n{caller}"), || quota.limit.fresh())
        .take(at)
}

fn over(taken: Taken) -> Reply {
    // Whole seconds, rounded up: whoever waits as told is served.
    let seconds = taken.wait.as_nanos().div_ceil(1_000_000_000);
    Reply::problem(429, "Too Many Requests", Value::Null)
        .with("retry-after", seconds.to_string())
        .with("ratelimit-limit", taken.limit.to_string())
        .with("ratelimit-remaining", "0")
        .with("ratelimit-reset", seconds.to_string())
}

fn meets(when: &When, call: &Call, state: &str) -> bool {
    let query = template::query(&call.query);
    let body: Option<Value> = if when.body.is_empty() {
        None
    } else {
        serde_json::from_slice(&call.body).ok()
    };
    when.state.as_ref().is_none_or(|wanted| wanted == state)
        && when
            .query
            .iter()
            .all(|pair| query.iter().any(|(name, value)| (name, value) == pair))
        && when
            .headers
            .iter()
            .all(|(name, value)| call.headers.get(&name.to_ascii_lowercase()) == Some(value))
        && when.body.iter().all(|(pointer, value)| {
            body.as_ref().and_then(|body| body.pointer(pointer)) == Some(value)
        })
}

fn from_model(reply: &model::Reply, call: &Call) -> Reply {
    let body = if reply.echo {
        let query = template::query(&call.query);
        let text = String::from_utf8_lossy(&call.body);
        let value = serde_json::from_str::<Value>(&text).unwrap_or_else(|_| json!(text));
        Some(
            json!({"method": call.method, "path": call.path, "query": query, "headers": call.headers, "body": value}),
        )
    } else {
        reply.body.clone()
    };
    let mut made = match body {
        Some(body) => Reply::json(reply.status, "application/json", &body),
        None => Reply::new(reply.status),
    };
    for (name, value) in &reply.headers {
        made.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        made = made.with(name, value);
    }
    made
}
