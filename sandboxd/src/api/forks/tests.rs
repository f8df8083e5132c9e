//! Forks over fake machines.

use serde_json::json;

use crate::api::tests::Client;

#[tokio::test]
async fn each_child_has_an_entry_of_its_own() {
    let client = Client::new().await;
    let id = client.create(json!({"metadata": {"k": "v"}})).await;
    let path = format!("/sandboxes/{id}/fork");
    let one = client.call("POST", &path, None).await;
    assert_eq!(one.status, 201);
    insta::assert_json_snapshot!(one.redacted(), @r#"
    [
      {
        "sandbox": {
          "alias": "base",
          "clientID": "6532622b",
          "domain": null,
          "envdAccessToken": "<token>",
          "envdVersion": "0.6.13",
          "sandboxID": "<id>",
          "templateID": "base",
          "trafficAccessToken": null
        }
      }
    ]
    "#);
    let child = one.json()[0]["sandbox"]["sandboxID"]
        .as_str()
        .unwrap()
        .to_owned();
    let detail = client.get(&format!("/sandboxes/{child}")).await.json();
    assert_eq!(detail["metadata"], json!({"k": "v"}));
    let seconds = |name: &str| {
        let time: jiff::Timestamp = detail[name].as_str().unwrap().parse().unwrap();
        time.as_second()
    };
    assert_eq!(seconds("endAt") - seconds("startedAt"), 15);

    let many = client.post(&path, json!({"count": 7, "timeout": 60})).await;
    assert_eq!(many.status, 201, "some have found no room");
    let forks = many.json();
    let forks = forks.as_array().unwrap();
    let errors: Vec<_> = forks.iter().filter_map(|fork| fork.get("error")).collect();
    assert_eq!((forks.len(), errors.len()), (7, 1));
    assert_eq!(errors[0]["code"], 429);
    assert!(errors[0]["message"].as_str().unwrap().contains("limit"));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = format!("/sandboxes/{id}/fork");
    let mut said = Vec::new();
    for body in [
        json!({"count": 0}),
        json!({"count": 101}),
        json!({"count": 8}),
        json!({"timeout": 0}),
        json!({"colour": "red"}),
    ] {
        said.push(client.post(&path, body).await.refusal());
    }
    insta::assert_snapshot!(said.join("\n"));
    client
        .post(&format!("/sandboxes/{id}/pause"), json!({}))
        .await;
    assert_eq!(client.post(&path, json!({})).await.status, 409);
    assert_eq!(
        client
            .post("/sandboxes/iunknown/fork", json!({}))
            .await
            .status,
        404
    );
}
