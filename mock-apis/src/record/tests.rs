//! Whatever was exchanged, what is written is read again and answers as it was answered.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::{Call, Engine};
use crate::fault::Act;
use crate::record::exchange::Seen;
use crate::record::write;
use crate::scenario;

fn exchange(path: &str, query: &str, status: u16, body: &[u8]) -> Option<Exchange> {
    let none = http::HeaderMap::new();
    let mut headers = http::HeaderMap::new();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    let seen = Seen {
        method: "GET",
        path,
        query,
        asked: &none,
        status,
        headers: &headers,
        body,
    };
    Exchange::of(&seen).ok()
}

fn load(exchanges: &[Exchange]) -> Engine {
    let recording = scenario("n", "api", exchanges);
    let text = write::scenario(&recording, &["about\nit".to_owned()]);
    let read = scenario::from_text(&text).unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"));
    assert_eq!(read, recording.scenario, "{text}");
    Engine::new(read, Path::new(".")).unwrap()
}

fn ask(engine: &mut Engine, path: &str, query: &str) -> (u16, Option<Value>) {
    let call = Call {
        face: crate::engine::Face::Http,
        caller: "c".into(),
        service: 0,
        method: "GET".into(),
        path: path.into(),
        query: query.into(),
        headers: BTreeMap::new(),
        body: Bytes::new(),
    };
    match engine
        .decide(&call, Duration::ZERO, SystemTime::UNIX_EPOCH)
        .act
    {
        Act::Reply(reply) => (reply.status, reply.value()),
        Act::Raw(steps) => panic!("{steps:?}"),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[-?:,\\[\\]{}#&*!|>'\"%@` \t\r\n~yYnN0-9.eExo_+]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_was_exchanged_loads_and_is_answered_alike(
        calls in prop::collection::vec(
            ("/[a-c]{0,1}(/[^/?#]{0,4})?", prop::sample::select(vec!["", "a=0", "a=1", "b=0", "a=0&b=0", "b=0&a=1", "token=secret-word"]), 100_u16..700, any_json()),
            1..12,
        ),
    ) {
        let kept: Vec<_> = calls
            .iter()
            .filter_map(|(path, query, status, body)| {
                let path = path.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
                let it = exchange(&path, query, *status, body.to_string().as_bytes())?;
                Some((path, query, it))
            })
            .collect();
        prop_assume!(!kept.is_empty());
        let exchanges: Vec<_> = kept.iter().map(|(.., it)| it.clone()).collect();
        let mut engine = load(&exchanges);
        for (path, query, it) in &kept {
            prop_assert_eq!(ask(&mut engine, path, query), (it.reply.status, it.reply.body.clone()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_write_what_does_not_load(
        path in "\\PC{0,30}", query in "\\PC{0,30}", body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        load(&exchange(&format!("/{path}"), &query, 200, &body).into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn replies_that_differ_come_in_their_order_and_the_last_one_stays() {
    let exchanges: Vec<_> = [1, 1, 2, 1]
        .iter()
        .filter_map(|n| exchange("/jobs/7", "", 200, json!({"n": n}).to_string().as_bytes()))
        .collect();
    let mut engine = load(&exchanges);
    let seen: Vec<_> = (0..6)
        .map(|_| ask(&mut engine, "/jobs/7", "").1.unwrap()["n"].clone())
        .collect();
    assert_eq!(seen, [1, 1, 2, 1, 1, 1]);
    let rules = &engine.scenario.services[0].routes[0].rules;
    assert_eq!(
        rules
            .iter()
            .map(|rule| rule.schedule.clone())
            .collect::<Vec<_>>(),
        [Schedule::First(2), Schedule::First(1)]
    );
}

#[test]
fn one_reply_for_all_calls_needs_no_rule() {
    let exchanges: Vec<_> = ["", "a=1", "a=2"]
        .iter()
        .filter_map(|query| exchange("/x", query, 204, b""))
        .collect();
    let engine = load(&exchanges);
    assert!(engine.scenario.services[0].routes[0].rules.is_empty());
}

#[test]
fn a_query_that_says_more_has_its_own_reply() {
    let exchanges: Vec<_> = [("a=1", "1"), ("a=1&b=2", "2"), ("", "3")]
        .iter()
        .filter_map(|(query, body)| exchange("/x", query, 200, body.as_bytes()))
        .collect();
    let mut engine = load(&exchanges);
    for (query, n) in [("b=2&a=1", 2), ("a=1", 1), ("", 3), ("c=4", 3)] {
        assert_eq!(ask(&mut engine, "/x", query).1, Some(json!(n)), "{query}");
    }
}

#[test]
fn names_are_their_own_and_bodies_that_are_left_out_are_told() {
    let html = exchange("/a/b", "", 200, b"<p>").unwrap();
    let other = exchange("/a-b", "", 200, b"{}").unwrap();
    let long = exchange(&format!("/{}", "x".repeat(5000)), "", 200, b"{}").unwrap();
    let recording = scenario("n", "api", &[html, other, long]);
    let names: Vec<_> = recording.scenario.services[0]
        .routes
        .iter()
        .map(|route| route.operation.as_str())
        .collect();
    assert_eq!(names[..2], ["get_a_b", "get_a_b_2"]);
    assert_eq!(names[2].len(), 60);
    assert_eq!(
        recording.notes,
        ["get_a_b: a body is not JSON, and is left out"]
    );
}
