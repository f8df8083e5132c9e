//! Lists over fake machines.

use serde_json::{Value, json};

use crate::api::tests::{Answer, Client};

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let list = answer.json();
    let ids = list.as_array().unwrap().iter();
    ids.map(|s| s["sandboxID"].as_str().unwrap().to_owned())
        .collect()
}

async fn three(client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..3 {
        let metadata = json!({"n": n.to_string(), "a b": "c&d"});
        ids.push(
            client
                .create(json!({"metadata": metadata}))
                .await
                .to_string(),
        );
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    ids
}

#[tokio::test]
async fn newest_come_first_and_pages_follow_each_other() {
    let client = Client::new().await;
    let made = three(&client).await;
    let newest: Vec<_> = made.iter().rev().cloned().collect();
    assert_eq!(ids(&client.get("/v2/sandboxes").await), newest);
    assert_eq!(ids(&client.get("/v2/sandboxes?order=asc").await), made);
    let mut seen = Vec::new();
    let mut path = "/v2/sandboxes?limit=1".to_owned();
    loop {
        let page = client.get(&path).await;
        assert_eq!(page.header("x-total-running"), Some("3"));
        seen.extend(ids(&page));
        match page.header("x-next-token") {
            Some(token) => path = format!("/v2/sandboxes?limit=1&nextToken={token}"),
            None => break,
        }
    }
    assert_eq!(seen, newest);
}

#[tokio::test]
async fn filters_select() {
    let client = Client::new().await;
    let made = three(&client).await;
    let get = async |query: &str| ids(&client.get(&format!("/v2/sandboxes?{query}")).await);
    assert_eq!(get("metadata=n%3D1").await, [made[1].clone()]);
    assert_eq!(get("metadata=a%252520b%3Dc%252526d").await.len(), 3);
    assert_eq!(get("metadata=n%3D1%26n2%3D1").await.len(), 0);
    assert_eq!(get("state=running").await.len(), 3);
    assert_eq!(get("state=paused").await.len(), 0);
    assert_eq!(get("state=running,paused").await.len(), 3);
    assert_eq!(get("template=base").await.len(), 3);
    assert_eq!(get("template=unknown").await.len(), 0);
    let detail = client.get(&format!("/sandboxes/{}", made[1])).await.json();
    let started = detail["startedAt"].as_str().unwrap();
    assert_eq!(get(&format!("startedAfter={started}")).await.len(), 2);
    assert_eq!(get("startedAfter=2999-01-01T00:00:00Z").await.len(), 0);
    let old = client.get("/sandboxes?metadata=n%3D2").await;
    assert_eq!(ids(&old), [made[2].clone()]);
}

#[tokio::test]
async fn a_killed_sandbox_is_no_longer_listed_and_its_token_still_holds() {
    let client = Client::new().await;
    let made = three(&client).await;
    let page = client.get("/v2/sandboxes?limit=1").await;
    let token = page.header("x-next-token").unwrap().to_owned();
    let killed = format!("/sandboxes/{}", made[2]);
    client.call("DELETE", &killed, None).await;
    let rest = client
        .get(&format!("/v2/sandboxes?nextToken={token}"))
        .await;
    assert_eq!(ids(&rest), [made[1].clone(), made[0].clone()]);
}

#[tokio::test]
async fn a_listed_sandbox_has_what_the_sdks_read() {
    let client = Client::new().await;
    client.create(json!({"metadata": {"k": "v"}})).await;
    let list = client.get("/v2/sandboxes").await.redacted();
    insta::assert_json_snapshot!(list, @r#"
    [
      {
        "alias": "base",
        "clientID": "6532622b",
        "cpuCount": 2,
        "diskSizeMB": 10240,
        "endAt": "<time>",
        "envdVersion": "0.6.13",
        "memoryMB": 512,
        "metadata": {
          "k": "v"
        },
        "sandboxID": "<id>",
        "startedAt": "<time>",
        "state": "running",
        "templateID": "base"
      }
    ]
    "#);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let client = Client::new().await;
    let mut said = Vec::new();
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "order=up",
        "state=asleep",
        "startedAfter=noon",
        "template=base:v1",
        "nextToken=garbage",
        "metadata=%25zz",
        "colour=red",
        "limit=1&limit=2",
    ] {
        let answer = client.get(&format!("/v2/sandboxes?{query}")).await;
        said.push(format!("{query}: {}", answer.refusal()));
    }
    client.create(json!({})).await;
    client.create(json!({})).await;
    let page = client.get("/v2/sandboxes?limit=1&order=asc").await;
    let token = page.header("x-next-token").unwrap();
    let other_order = client
        .get(&format!("/v2/sandboxes?nextToken={token}"))
        .await;
    said.push(other_order.refusal());
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(client.get("/v2/sandboxes?nextToken=").await.status, 200);
    let empty: Value = client.get("/v2/sandboxes?state=paused").await.json();
    assert_eq!(empty, json!([]));
}
