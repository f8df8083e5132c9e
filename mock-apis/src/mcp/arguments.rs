//! From a tool's arguments to the request that they stand for.
//!
//! ```text
//! null, or not there   the request does not have it
//! text                 as it is
//! number, true, false  as JSON writes it
//! list                 in the query once for each item, elsewhere with commas between the items
//! object               as JSON
//! body                 as JSON; text as it is when the media type is not JSON
//! ```
//!
//! What HTTP could not carry is refused: a target beyond the longest that there is, and as much again in headers.

use std::collections::BTreeMap;

use bytes::Bytes;
use loadgen::e2b::api::percent;
use serde_json::{Map, Value, json};

use super::tool::{Place, Tool};
use crate::contract::document::is_json;
use crate::fault::Reply;

/// Most bytes of path and query, as in HTTP, and of headers.
const LONGEST: usize = 65_534;

/// The parts of a request that arguments decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Path.
    pub path: String,
    /// Query.
    pub query: String,
    /// Headers, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Bytes,
}

/// Why arguments make no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// A path with a hole is another path.
    #[error("is required")]
    Missing(String),
    /// A name that the tool does not have.
    #[error("is no argument of this tool")]
    Unknown(String),
    /// More than HTTP could carry.
    #[error("path and query, or the headers, would have more than {LONGEST} bytes")]
    TooLong,
}

impl ArgumentError {
    fn argument(&self) -> &str {
        match self {
            Self::Missing(name) | Self::Unknown(name) => name,
            Self::TooLong => "",
        }
    }
}

/// The request, or what is wrong with the arguments. What is missing elsewhere than in the path is for the contract to refuse.
pub fn request(tool: &Tool, given: &Map<String, Value>) -> Result<Request, Vec<ArgumentError>> {
    let mut wrong = Vec::new();
    let known = |name: &String| tool.arguments.iter().any(|it| it.name == *name);
    for name in given.keys().filter(|name| !known(name)).take(100) {
        wrong.push(ArgumentError::Unknown(name.chars().take(100).collect()));
    }
    let mut made = Request::default();
    let (mut path, mut query) = (BTreeMap::new(), Vec::new());
    for argument in &tool.arguments {
        let value = given.get(&argument.name).filter(|value| !value.is_null());
        match (&argument.place, value) {
            (Place::Path(name), value) => match value.map(joined) {
                Some(text) if !text.is_empty() => {
                    path.insert(name.as_str(), text);
                }
                _ => wrong.push(ArgumentError::Missing(argument.name.clone())),
            },
            (_, None) => {}
            (Place::Query(name), Some(value)) => pairs(name, value, &mut query),
            (Place::AllQuery, Some(Value::Object(members))) => members
                .iter()
                .for_each(|(name, value)| pairs(name, value, &mut query)),
            (Place::AllQuery, Some(value)) => query.push(percent(&text(value))),
            (Place::Header(name), Some(value)) => {
                made.headers.insert(name.clone(), joined(value));
            }
            (Place::Body(kind), Some(value)) => {
                made.headers.insert("content-type".into(), kind.clone());
                made.body = match value {
                    Value::String(text) if !is_json(kind) => text.clone().into(),
                    value => value.to_string().into(),
                };
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    made.path = tool
        .template
        .fill(|name| path.get(name).map_or("", String::as_str));
    made.query = query.join("&");
    let headers: usize = made.headers.values().map(String::len).sum();
    if made.path.len() + made.query.len() >= LONGEST || headers > LONGEST {
        return Err(vec![ArgumentError::TooLong]);
    }
    Ok(made)
}

/// The reply that refuses arguments.
pub fn refusal(wrong: &[ArgumentError]) -> Reply {
    let errors: Vec<_> = wrong
        .iter()
        .map(|it| json!({"pointer": format!("argument:{}", it.argument()), "detail": it.to_string()}))
        .collect();
    let (status, title) = if wrong.contains(&ArgumentError::TooLong) {
        (414, "URI Too Long")
    } else {
        (400, "Bad Request")
    };
    Reply::problem(status, title, json!({ "errors": errors }))
}

fn pairs(name: &str, value: &Value, query: &mut Vec<String>) {
    let mut one = |value| query.push(format!("{}={}", percent(name), percent(&text(value))));
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(one),
        value => one(value),
    }
}

fn joined(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        value => text(value),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Call, Engine, Face};
    use crate::mcp::tools;

    fn engine() -> Engine {
        let scenario = include_str!("../../scenarios/travel.yaml").replace(
            "agent_env:",
            "  - name: plain\n    routes:\n      - {operation: any, method: PUT, path: '/a/{b}', reply: {status: 200, echo: true}}\nagent_env:",
        );
        let scenario = crate::scenario::from_text(&scenario).unwrap();
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
        Engine::new(scenario, folder).unwrap()
    }

    fn made(name: &str, given: &Value) -> Result<Request, Vec<ArgumentError>> {
        let all = tools(&engine());
        let tool = all.iter().find(|tool| tool.name == name).unwrap();
        request(tool, given.as_object().unwrap())
    }

    #[test]
    fn arguments_become_the_parts_of_a_request() {
        let search = made("flights_search", &json!({"from": "F&A", "to": ["a", 1]})).unwrap();
        assert_eq!(search.path, "/flights");
        assert_eq!(search.query, "from=F%26A&to=a&to=1");
        let seats = made("flights_seats", &json!({"id": "a/../b c"})).unwrap();
        assert_eq!(seats.path, "/flights/a%2F..%2Fb%20c/seats");
        let given = json!({"body": {"flight": "x"}, "X-Approval-Token": 7, "idempotency_key": "k"});
        let pay = made("payments_pay", &given).unwrap();
        assert_eq!(pay.body, "{\"flight\":\"x\"}");
        let headers = ["content-type", "idempotency-key", "x-approval-token"];
        assert_eq!(pay.headers.keys().collect::<Vec<_>>(), headers);
        let given = json!({"b": true, "query": {"x": [1, null, "é"]}, "body": null});
        let plain = made("plain_any", &given).unwrap();
        assert_eq!(
            (plain.path.as_str(), plain.query.as_str(), plain.body.len()),
            ("/a/true", "x=1&x=null&x=%C3%A9", 0)
        );
    }

    #[test]
    fn a_hole_in_the_path_and_a_strange_name_are_refused() {
        let wrong = made("flights_read", &json!({"id": "", "other": 1})).unwrap_err();
        let expected = [
            ArgumentError::Unknown("other".into()),
            ArgumentError::Missing("id".into()),
        ];
        assert_eq!(wrong, expected);
        let said = refusal(&wrong).value().unwrap();
        assert_eq!(said["errors"][1]["pointer"], "argument:id");
    }

    #[test]
    fn what_http_could_not_carry_is_refused() {
        let many = "x".repeat(LONGEST - "/flights/".len());
        for (tool, given) in [
            ("flights_read", json!({"id": many})),
            (
                "flights_search",
                json!({"from": "é".repeat(11_000), "to": "a"}),
            ),
            (
                "payments_pay",
                json!({"idempotency_key": many + "123456789."}),
            ),
        ] {
            let wrong = made(tool, &given).unwrap_err();
            assert_eq!(refusal(&wrong).status, 414, "{tool}");
        }
        let body = json!({"body": "x".repeat(LONGEST * 2)});
        assert!(made("payments_pay", &body).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The request is one that HTTP could have carried, it finds its operation, and the engine has an answer.
        #[test]
        fn no_arguments_make_it_panic(
            values in prop::collection::vec(prop::option::of(any_json()), 6),
            strange in prop::option::of(("\\PC{0,8}", any_json())),
        ) {
            let mut engine = engine();
            for tool in tools(&engine) {
                let names = tool.arguments.iter().map(|it| it.name.clone());
                let pairs = names.zip(values.iter().cloned());
                let mut given: Map<_, _> =
                    pairs.filter_map(|(name, value)| Some((name, value?))).collect();
                given.extend(strange.clone());
                let Ok(made) = request(&tool, &given) else { continue };
                let target = format!("{}?{}", made.path, made.query);
                prop_assert!(target.parse::<http::Uri>().is_ok(), "{target}");
                let call = Call {
                    face: Face::Mcp,
                    caller: "c".into(),
                    service: tool.service,
                    method: tool.method.clone(),
                    path: made.path,
                    query: made.query,
                    headers: made.headers,
                    body: made.body,
                };
                let at = std::time::Duration::ZERO;
                let decision = engine.decide(&call, at, std::time::SystemTime::UNIX_EPOCH);
                prop_assert_eq!(decision.operation, Some(tool.operation));
            }
        }
    }
}
