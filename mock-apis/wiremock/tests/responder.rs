//! Each fault of the catalogue: a responder, or a clear no.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use mock_apis::fault::Fault;
use mock_apis::pure::schedule::Schedule;
use mock_apis_wiremock::{Faulty, NotPlain};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

fn fault(name: &str) -> Fault {
    serde_json::from_value(json!({name: {}})).unwrap()
}

struct Seen {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

async fn calls(faulty: Faulty, count: usize) -> Vec<Seen> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(faulty).mount(&server).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut all = Vec::new();
    for _ in 0..count {
        let uri = format!("{}/flights/LH-100", server.uri());
        let request = Request::get(uri).body(Empty::new()).unwrap();
        let (parts, body) = client.request(request).await.unwrap().into_parts();
        all.push(Seen {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        });
    }
    all
}

fn statuses(seen: &[Seen]) -> Vec<u16> {
    seen.iter().map(|seen| seen.status).collect()
}

#[tokio::test]
async fn a_fault_fires_by_the_number_of_the_call() {
    let limited = Faulty::new(fault("rate_limited"), Schedule::Nth(vec![2, 3]), 1).unwrap();
    let seen = calls(limited.otherwise(ResponseTemplate::new(204)), 4).await;
    assert_eq!(statuses(&seen), [204, 429, 429, 204]);
    assert_eq!(seen[1].headers["content-type"], "application/problem+json");
    assert_eq!(seen[1].headers["retry-after"], "1");
}

#[tokio::test]
async fn one_seed_is_one_run() {
    let run = async |seed| {
        let some = Faulty::new(fault("server_error"), Schedule::Probability(0.5), seed).unwrap();
        statuses(&calls(some, 40).await)
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    assert!(first.contains(&200) && first.contains(&500));
}

#[tokio::test]
async fn faults_about_content_change_the_normal_reply() {
    let normal = json!({"price": 180});
    for name in ["breaks_schema", "plausible_but_wrong"] {
        let faulty = Faulty::new(fault(name), Schedule::First(1), 1).unwrap();
        let seen = calls(faulty.normal(201, &normal), 2).await;
        assert_eq!(statuses(&seen), [201, 201]);
        let wrong: Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_ne!(wrong, normal, "{name}");
        assert_eq!(
            serde_json::from_slice::<Value>(&seen[1].body).unwrap(),
            normal
        );
    }
    let faulty = Faulty::new(fault("malformed_json"), Schedule::Always, 1).unwrap();
    let seen = calls(faulty.normal(200, &normal), 1).await;
    assert!(serde_json::from_slice::<Value>(&seen[0].body).is_err());
}

#[tokio::test]
async fn each_fault_is_a_responder_or_says_what_serves_it() {
    let mut raw = Vec::new();
    for (name, _) in Fault::ALL {
        match Faulty::new(fault(name), Schedule::Always, 1) {
            Ok(faulty) => assert_eq!(calls(faulty, 1).await.len(), 1, "{name}"),
            Err(error) => {
                assert_eq!(error, NotPlain::Raw(name));
                assert!(error.to_string().contains("mock_apis::Server::local"));
                raw.push(*name);
            }
        }
    }
    for name in [
        "reset_before_headers",
        "truncated_body",
        "hang",
        "dribbled_body",
    ] {
        assert!(raw.contains(&name), "{name} in {raw:?}");
    }
    assert!(raw.len() < Fault::ALL.len() / 2 + 1, "{raw:?}");
}

#[test]
fn a_schedule_that_is_none_is_refused() {
    let error = Faulty::new(fault("not_found"), Schedule::Nth(vec![0]), 1).unwrap_err();
    assert_eq!(error.to_string(), "calls are counted from 1");
}
