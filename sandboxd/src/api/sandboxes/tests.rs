//! Create, show, kill over fake machines.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::api::tests::Client;
use crate::machine::fake::Mood;

#[tokio::test]
async fn the_second_create_secures_and_gives_five_minutes() {
    let client = Client::new().await;
    let answer = client
        .post(
            "/v2/sandboxes",
            json!({"templateID": "base", "metadata": {}, "envVars": {}}),
        )
        .await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!(answer.redacted(), @r#"
    {
      "alias": "base",
      "clientID": "6532622b",
      "domain": null,
      "envdAccessToken": "<token>",
      "envdVersion": "0.6.13",
      "sandboxID": "<id>",
      "templateID": "base",
      "trafficAccessToken": null
    }
    "#);
    let timing = answer.header("server-timing").unwrap();
    let stages = timing.split(", ").map(|entry| {
        let (name, time) = entry.split_once(";dur=").unwrap();
        (name, time.parse::<f64>().unwrap())
    });
    let (names, times): (Vec<_>, Vec<_>) = stages.unzip();
    let expected = [
        "queue",
        "store",
        "pool",
        "resume",
        "agent",
        "configure",
        "other",
        "total",
    ];
    assert_eq!(names, expected);
    // What the fake machine says it took.
    assert_eq!(times[2..6], [1.0, 2.0, 3.0, 4.0]);
    let id = answer.json()["sandboxID"].as_str().unwrap().to_owned();
    let detail = client.get(&format!("/sandboxes/{id}-6532622b")).await;
    insta::assert_json_snapshot!(detail.redacted(), @r#"
    {
      "alias": "base",
      "allowInternetAccess": null,
      "clientID": "6532622b",
      "cpuCount": 2,
      "diskSizeMB": 10240,
      "domain": null,
      "endAt": "<time>",
      "envdAccessToken": "<token>",
      "envdVersion": "0.6.13",
      "lifecycle": {
        "autoResume": false,
        "onTimeout": "kill"
      },
      "memoryMB": 512,
      "metadata": {},
      "sandboxID": "<id>",
      "startedAt": "<time>",
      "state": "running",
      "templateID": "base"
    }
    "#);
    let span = |name: &str| {
        let detail = detail.json();
        let time: jiff::Timestamp = detail[name].as_str().unwrap().parse().unwrap();
        time.as_microsecond()
    };
    assert_eq!(span("endAt") - span("startedAt"), 300_000_000);
}

#[tokio::test]
async fn the_first_create_has_its_own_defaults() {
    let client = Client::new().await;
    let answer = client
        .post("/sandboxes", json!({"templateID": "base"}))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json().get("envdAccessToken"), None);
    let secured = client
        .post(
            "/sandboxes",
            json!({"templateID": "base:default", "secure": true, "timeout": 60}),
        )
        .await;
    assert!(secured.json()["envdAccessToken"].is_string());
    let plans = client.house.fake.plans.lock().unwrap();
    assert_eq!(plans[0].access_token, None);
    assert!(plans[1].access_token.is_some());
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_machine_and_comes_back() {
    let client = Client::new().await;
    let id = client
        .create(json!({
            "timeout": 60, "autoPause": false, "autoPauseMemory": true, "autoResume": {"enabled": false},
            "secure": true, "allow_internet_access": false, "mcp": null, "iam": {"tokens": {}},
            "volumeMounts": [], "metadata": {"who": "me"}, "envVars": {"A": "1"},
            "network": {"allowOut": ["1.1.1.1"], "allowPublicTraffic": false, "maskRequestHost": "a:${PORT}"},
        }))
        .await;
    let detail = client.detail(&id).await;
    assert_eq!(detail["metadata"], json!({"who": "me"}));
    assert_eq!(detail["allowInternetAccess"], json!(false));
    assert_eq!(
        detail["network"],
        json!({"allowOut": ["1.1.1.1"], "allowPublicTraffic": false, "maskRequestHost": "a:${PORT}"})
    );
    let plans = client.house.fake.plans.lock().unwrap();
    assert_eq!(plans[0].env["A"], "1");
    let sandbox = client.manager.known(&id).unwrap();
    assert!(sandbox.facts.traffic_token.is_some());
}

#[tokio::test]
async fn what_is_not_supported_or_wrong_is_refused_by_name() {
    let client = Client::new().await;
    let mut said = Vec::new();
    for body in [
        json!({}),
        json!({"templateID": "base", "colour": "red"}),
        json!({"templateID": 5}),
        json!({"templateID": "no such name!"}),
        json!({"templateID": "unknown"}),
        json!({"templateID": "base:v7"}),
        json!({"templateID": "base", "timeout": 0}),
        json!({"templateID": "base", "timeout": -5}),
        json!({"templateID": "base", "timeout": 99_999_999_999_i64}),
        json!({"templateID": "base", "autoPauseMemory": false}),
        json!({"templateID": "base", "autoPause": true, "autoPauseMemory": false, "autoResume": {"enabled": true}}),
        json!({"templateID": "base", "autoResume": {"enabled": true, "policy": "any"}}),
        json!({"templateID": "base", "secure": false}),
        json!({"templateID": "base", "mcp": {}}),
        json!({"templateID": "base", "iam": {"tokens": {"a": {}}}}),
        json!({"templateID": "base", "volumeMounts": [{"name": "v", "path": "/v"}]}),
        json!({"templateID": "base", "envVars": {"A=B": "1"}}),
        json!({"templateID": "base", "envVars": {"A": "\0"}}),
        json!({"templateID": "base", "network": {"allowOut": ["example.com"]}}),
        json!({"templateID": "base", "network": {"httpsPorts": [443]}}),
    ] {
        said.push(client.post("/v2/sandboxes", body).await.refusal());
    }
    let body = json!({"templateID": "base", "network": {"allowPublicTraffic": false}});
    said.push(client.post("/sandboxes", body).await.refusal());
    insta::assert_snapshot!(said.join("\n"));
    assert!(client.manager.all().is_empty());
}

#[tokio::test]
async fn killing_twice_finds_nothing_the_second_time() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = format!("/sandboxes/{id}");
    let killed = client.call("DELETE", &path, None).await;
    assert_eq!((killed.status, killed.text.as_str()), (204, ""));
    for method in ["DELETE", "GET"] {
        assert_eq!(client.call(method, &path, None).await.status, 404);
    }
    let odd = client
        .call("DELETE", "/sandboxes/NOT%2Fan%20id", None)
        .await;
    assert_eq!(odd.status, 404);
    client.house.settled(&client.manager).await;
}

#[tokio::test]
async fn a_failed_start_is_not_worth_repeating_and_tells_no_secrets() {
    let client = Client::new().await;
    *client.house.fake.mood.lock().unwrap() = Mood::Fails;
    let answer = client
        .post("/v2/sandboxes", json!({"templateID": "base"}))
        .await;
    assert_eq!(answer.header("should-retry"), Some("false"));
    assert_eq!(answer.json()["error_code"], "sandbox_create_failed");
    insta::assert_snapshot!(
        answer.refusal(),
        @"500 The sandbox could not be created: its machine ended while it was starting; the server's log has the details."
    );
    client.house.settled(&client.manager).await;
}

#[tokio::test]
async fn a_full_house_refuses_with_429() {
    let client = Client::new().await;
    for _ in 0..8 {
        client.create(json!({})).await;
    }
    let answer = client
        .post("/v2/sandboxes", json!({"templateID": "base"}))
        .await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["error_code"], "sandbox_capacity_unavailable");
}

async fn create_with(client: &Client, key: &str, body: &str) -> crate::api::tests::Answer {
    let request = Request::builder()
        .method("POST")
        .uri("/v2/sandboxes")
        .header("x-api-key", "e2b_0123456789abcdef0123456789abcdef01234567")
        .header("idempotency-key", key)
        .body(Body::from(body.to_owned()))
        .unwrap();
    client.send(request).await
}

#[tokio::test]
async fn a_repeated_create_creates_nothing_twice() {
    let client = Client::new().await;
    let body = r#"{"templateID":"base"}"#;
    let first = create_with(&client, "key-1", body).await;
    let second = create_with(&client, "key-1", body).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json(), second.json());
    assert_eq!(client.manager.all().len(), 1);
    let other = create_with(&client, "key-1", r#"{"templateID":"base","timeout":9}"#).await;
    assert_eq!(other.json()["error_code"], "idempotency_request_mismatch");
    for bad in ["", "UPPER", "a b", &"a".repeat(256)] {
        assert_eq!(create_with(&client, bad, body).await.status, 400, "{bad}");
    }
    *client.house.fake.mood.lock().unwrap() = Mood::Fails;
    assert_eq!(create_with(&client, "key-2", body).await.status, 500);
    *client.house.fake.mood.lock().unwrap() = Mood::Works;
    assert_eq!(create_with(&client, "key-2", body).await.status, 201);
}

#[tokio::test]
async fn the_first_request_of_a_key_is_waited_for_by_asking_again() {
    let client = Client::new().await;
    *client.house.fake.mood.lock().unwrap() = Mood::Hangs;
    let body = r#"{"templateID":"base"}"#;
    tokio::select! {
        _ = create_with(&client, "slow", body) => panic!("a hanging start came to an end"),
        answer = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                let answer = create_with(&client, "slow", body).await;
                if answer.status != 201 { break answer; }
            }
        } => {
            assert_eq!(answer.json()["error_code"], "idempotency_in_progress");
            assert_eq!(answer.header("should-retry"), Some("true"));
        }
    }
}
