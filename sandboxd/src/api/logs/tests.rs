//! Logs over fake machines.

use serde_json::json;

use crate::api::tests::{Answer, Client};

async fn eventually(client: &Client, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..200 {
        let answer = client.get(path).await;
        if done(&answer) {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{path} never came to say it");
}

#[tokio::test]
async fn the_life_of_a_sandbox_is_told_even_after_its_end() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    client
        .call("DELETE", &format!("/sandboxes/{id}"), None)
        .await;
    let path = format!("/v2/sandboxes/{id}/logs");
    let answer = eventually(&client, &path, |a| a.text.contains("ended")).await;
    insta::assert_json_snapshot!(answer.redacted(), @r#"
    {
      "logs": [
        {
          "fields": {
            "event": "ended"
          },
          "level": "info",
          "message": "The sandbox ended: request.",
          "timestamp": "<time>"
        },
        {
          "fields": {
            "event": "created"
          },
          "level": "info",
          "message": "The sandbox runs.",
          "timestamp": "<time>"
        }
      ]
    }
    "#);
    let count = async |query: &str| {
        let answer = client.get(&format!("{path}?{query}")).await;
        answer.json()["logs"].as_array().unwrap().len()
    };
    assert_eq!(count("search=runs").await, 1);
    assert_eq!(count("level=error").await, 0);
    assert_eq!(count("limit=1&direction=forward").await, 1);
    assert_eq!(count("cursor=0").await, 0);
    let first = client.get(&format!("/sandboxes/{id}/logs")).await.json();
    assert_eq!(first["logs"].as_array().unwrap().len(), 2);
    let line = first["logs"][0]["line"].as_str().unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line, first["logEntries"][0]);
}

#[tokio::test]
async fn bad_queries_and_unknown_sandboxes_are_refused() {
    let client = Client::new().await;
    assert_eq!(client.get("/sandboxes/iunknown/logs").await.status, 404);
    for query in ["direction=up", "level=loud", "limit=1001", "colour=red"] {
        let path = format!("/v2/sandboxes/iunknown/logs?{query}");
        assert_eq!(client.get(&path).await.status, 400, "{query}");
    }
}
