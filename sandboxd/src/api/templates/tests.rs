//! Reading templates.

use serde_json::json;

use super::wire::ListQuery;
use crate::api::tests::Client;

#[tokio::test]
async fn templates_are_listed_and_shown() {
    let client = Client::new().await;
    client.create(json!({})).await;
    let list = client.get("/templates?teamID=any").await;
    insta::assert_json_snapshot!(list.redacted()[0], @r#"
    {
      "aliases": [
        "base"
      ],
      "buildCount": 1,
      "buildID": "00000000-0000-0000-0000-000000000001",
      "buildStatus": "ready",
      "cpuCount": 2,
      "createdAt": "2023-11-14T22:13:20.000000Z",
      "createdBy": null,
      "diskSizeMB": 10240,
      "envdVersion": "0.6.13",
      "lastSpawnedAt": "<time>",
      "memoryMB": 512,
      "names": [
        "base"
      ],
      "public": true,
      "spawnCount": 1,
      "templateID": "base",
      "updatedAt": "2023-11-14T22:13:20.000000Z"
    }
    "#);
    assert_eq!(client.get("/v2/templates").await.json(), list.json());
    let shown = client.get("/templates/base").await.json();
    assert_eq!(shown["builds"][0]["status"], "ready");
    assert_eq!(shown["templateID"], "base");
}

#[test]
fn pages_follow_each_other() {
    let ids = ["a", "b", "c"];
    let query = |limit: &str, token: &str| {
        let query = json!({"limit": limit, "nextToken": token});
        serde_json::from_value::<ListQuery>(query)
            .unwrap()
            .page(&ids)
    };
    assert_eq!(query("2", "").unwrap(), (0..2, Some("b")));
    assert_eq!(query("2", "b").unwrap(), (2..3, None));
    assert_eq!(query("3", "").unwrap(), (0..3, None));
    assert_eq!(query("1", "bb").unwrap(), (2..3, None), "b was deleted");
    assert_eq!(query("1", "z").unwrap(), (3..3, None));
    for (limit, token) in [("0", ""), ("101", ""), ("x", ""), ("1", "?")] {
        assert!(query(limit, token).is_err(), "{limit} {token}");
    }
}

#[tokio::test]
async fn an_alias_is_looked_up_as_one_segment_even_with_a_slash_in_it() {
    let client = Client::new().await;
    let found = client.get("/templates/aliases/base%3Adefault").await;
    assert_eq!(found.json(), json!({"templateID": "base", "public": true}));
    for name in ["nope", "team%2Fbase", "base%3Av2"] {
        let answer = client.get(&format!("/templates/aliases/{name}")).await;
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.text.contains("template"), "{name} found no route");
    }
    assert_eq!(client.get("/templates/aliases/a%20b").await.status, 400);
}
