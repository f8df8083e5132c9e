//! Each fault of the catalogue, as a client sees it on a socket.

mod common;

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use common::{Seen, get};
use mock_apis::fault::Fault;
use mock_apis::server::Identity;
use serde_json::Value;

type Check = fn(&Seen) -> bool;

fn json(seen: &Seen) -> Option<Value> {
    serde_json::from_str(&seen.body()).ok()
}

fn length(seen: &Seen) -> usize {
    seen.header("content-length").unwrap().parse().unwrap()
}

fn problem(seen: &Seen, status: u16) -> bool {
    let typed = seen.header("content-type").as_deref() == Some("application/problem+json");
    seen.status() == Some(status) && typed && json(seen).unwrap()["status"] == status
}

/// Name, parameters, and what the client sees. The normal reply is one flight.
const TABLE: &[(&str, &str, Check)] = &[
    ("succeed", "{}", |seen| {
        seen.status() == Some(200) && json(seen).unwrap()["price"] == 237
    }),
    ("bad_request", "{errors: {/a: missing}}", |seen| {
        problem(seen, 400) && json(seen).unwrap()["errors"][0]["pointer"] == "/a"
    }),
    ("unauthorized", "{}", |seen| {
        problem(seen, 401)
            && seen
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
    }),
    ("forbidden", "{}", |seen| problem(seen, 403)),
    ("not_found", "{}", |seen| problem(seen, 404)),
    ("conflict", "{}", |seen| problem(seen, 409)),
    ("unprocessable", "{errors: {/a: wrong}}", |seen| {
        problem(seen, 422) && json(seen).unwrap()["errors"][0]["detail"] == "wrong"
    }),
    ("rate_limited", "{retry_after_s: 7}", |seen| {
        problem(seen, 429)
            && seen.header("retry-after").as_deref() == Some("7")
            && seen.header("ratelimit-remaining").as_deref() == Some("0")
    }),
    (
        "rate_limited",
        "{retry_after_s: 60, as_date: true}",
        |seen| {
            let date = httpdate::parse_http_date(&seen.header("retry-after").unwrap()).unwrap();
            let wait = date.duration_since(SystemTime::now()).unwrap();
            (Duration::from_secs(55)..=Duration::from_secs(61)).contains(&wait)
        },
    ),
    ("server_error", "{}", |seen| problem(seen, 500)),
    ("bad_gateway", "{}", |seen| problem(seen, 502)),
    ("unavailable", "{retry_after_s: 3}", |seen| {
        problem(seen, 503) && seen.header("retry-after").as_deref() == Some("3")
    }),
    ("malformed_json", "{}", |seen| {
        seen.status() == Some(200)
            && length(seen) == seen.body().len()
            && !seen.body().is_empty()
            && json(seen).is_none()
    }),
    ("truncated_body", "{}", |seen| {
        seen.status() == Some(200) && seen.body().len() < length(seen) && !seen.body().is_empty()
    }),
    ("wrong_content_type", "{}", |seen| {
        seen.header("content-type").as_deref() == Some("text/html") && json(seen).is_some()
    }),
    ("wrong_length", "{}", |seen| {
        seen.body().len() > length(seen) && json(seen).is_some()
    }),
    ("breaks_schema", "{}", |seen| {
        seen.status() == Some(200) && json(seen).is_some_and(|value| !value["date"].is_string())
    }),
    ("plausible_but_wrong", "{}", |seen| {
        // By seed 0 the normal price is 237.
        json(seen).is_some_and(|value| {
            value["id"].is_string() && value["price"].as_u64().is_some_and(|price| price != 237)
        })
    }),
    ("plausible_but_wrong", "{set: {/price: 7}}", |seen| {
        json(seen).unwrap()["price"] == 7
    }),
    ("empty_reply", "{}", |seen| {
        seen.bytes.is_empty() && seen.error.is_none()
    }),
    ("reset_before_headers", "{}", |seen| {
        seen.bytes.is_empty() && seen.error == Some(ErrorKind::ConnectionReset)
    }),
    ("reset_after_headers", "{}", |seen| {
        seen.status() == Some(200)
            && seen.body().is_empty()
            && seen.error == Some(ErrorKind::ConnectionReset)
    }),
    ("slow_headers", "{gap_ms: 5}", |seen| {
        json(seen).is_some() && seen.took >= Duration::from_millis(5 * 80)
    }),
    ("dribbled_body", "{gap_ms: 5}", |seen| {
        json(seen).is_some() && seen.took >= Duration::from_millis(5 * length(seen) as u64)
    }),
    ("hang", "{for_ms: 400}", |seen| {
        seen.bytes.is_empty() && seen.took >= Duration::from_millis(400)
    }),
    ("redirect_loop", "{}", |seen| {
        seen.status() == Some(307) && seen.header("location").as_deref() == Some("/flights/x")
    }),
    ("oversized_body", "{mib: 3}", |seen| {
        seen.body().len() == length(seen) && length(seen) > 3 << 20 && json(seen).is_some()
    }),
    ("cut_event_stream", "{events: 2}", |seen| {
        seen.header("content-type").as_deref() == Some("text/event-stream")
            && seen.body().matches("\n\n").count() == 2
            && seen.body().contains("id: 3")
            && !seen.body().ends_with("\n\n")
    }),
    ("did_the_work", "{}", |seen| problem(seen, 503)),
    ("rpc_malformed", "{}", |seen| {
        seen.status() == Some(200) && length(seen) == seen.body().len() && json(seen).is_none()
    }),
    ("rpc_truncated", "{}", |seen| {
        seen.status() == Some(200) && seen.body().len() < length(seen) && !seen.body().is_empty()
    }),
    ("rpc_wrong_result", "{}", |seen| {
        json(seen).is_some_and(|value| {
            value["date"].is_string() && value["price"].as_u64().is_some_and(|price| price != 237)
        })
    }),
];

#[test]
fn the_table_has_every_fault() {
    let tested: std::collections::BTreeSet<_> = TABLE.iter().map(|(name, ..)| *name).collect();
    let all: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(tested, all);
}

#[tokio::test]
async fn each_fault_is_on_the_wire_what_its_name_says() {
    for (name, parameters, check) in TABLE {
        let text = format!(
            "version: 1\nname: t\nservices:\n  - name: flights\n    openapi: openapi/flights.yaml\n    credentials: [{{token: t}}]\n    routes:\n      - operation: read\n        rules: [{{fault: {{{name}: {parameters}}}}}]\n"
        );
        let server = common::serve(&text, Identity::default()).await;
        let seen = get(
            server.services["flights"],
            "/flights/x",
            "\r\nauthorization: Bearer t",
        )
        .await;
        assert!(
            check(&seen),
            "{name} {parameters}: {:?} {:?} {:.600}",
            seen.error,
            seen.took,
            seen.text()
        );
        let entry = server.shared.lock().journal.entries()[0].clone();
        assert_eq!(entry.fault.as_deref(), Some(*name));
    }
}
