//! Snapshots over fake machines.

use serde_json::{Value, json};

use super::wire::ListQuery;
use crate::api::tests::Client;
use crate::ids::{SandboxId, SnapshotId};
use crate::machine::Source;
use crate::moment::Moment;
use crate::store::captures::{Kind, Label, SavedCapture};

async fn take(client: &Client, id: &SandboxId, body: Value) -> Value {
    let answer = client
        .post(&format!("/sandboxes/{id}/snapshots"), body)
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_sandbox_is_created_from_a_snapshot() {
    let client = Client::new().await;
    let id = client
        .create(json!({"envVars": {"A": "1", "B": "2"}}))
        .await;
    let taken = take(&client, &id, json!({"name": "Mine:v1"})).await;
    assert_eq!(
        taken,
        json!({"snapshotID": "mine:v1", "names": ["mine:v1"]})
    );
    let unnamed = take(&client, &id, json!({"memory": false})).await;
    assert_eq!(unnamed["names"], json!([]));
    let unnamed = unnamed["snapshotID"].as_str().unwrap().to_owned();
    assert!(unnamed.starts_with('s') && unnamed.ends_with(":default"));

    let child = client
        .create(json!({"templateID": "mine:v1", "envVars": {"B": "3"}}))
        .await;
    let detail = client.detail(&child).await;
    assert_eq!(detail["alias"], "mine");
    assert!(detail["templateID"].as_str().unwrap().starts_with('s'));
    assert_ne!(
        detail["envdAccessToken"],
        client.detail(&id).await["envdAccessToken"]
    );
    let listed = client.get("/v2/sandboxes?template=mine").await.json();
    assert_eq!(listed[0]["sandboxID"], child.as_str());
    client.create(json!({"templateID": unnamed})).await;
    let plans = client.house.fake.plans.lock().unwrap().clone();
    assert!(matches!(plans[1].source, Source::Memory(_)));
    assert_eq!(
        plans[1].env,
        [("A".into(), "1".into()), ("B".into(), "3".into())].into()
    );
    assert!(matches!(plans[2].source, Source::Disk(_)));
    let family = &detail["templateID"];
    for (name, found) in [("mine", true), ("mine%3Av1", true), ("mine%3Av2", false)] {
        let alias = client.get(&format!("/templates/aliases/{name}")).await;
        match found {
            true => assert_eq!(alias.json(), json!({"templateID": family, "public": false})),
            false => assert_eq!(alias.status, 404, "{}", alias.text),
        }
    }
    let unknown = client
        .post("/v2/sandboxes", json!({"templateID": "mine"}))
        .await;
    assert_eq!(unknown.status, 404, "the tag default does not exist");
}

#[tokio::test]
async fn a_snapshot_is_deleted_once_nothing_of_it_lives() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    take(&client, &id, json!({"name": "mine:v1"})).await;
    let child = client.create(json!({"templateID": "mine:v1"})).await;
    let path = "/templates/mine%3Av1";
    let used = client.call("DELETE", path, None).await;
    insta::assert_snapshot!(
        used.refusal().replace(child.as_str(), "<id>"),
        @"400 The snapshot `mine:v1` cannot be deleted: the sandbox `<id>` was created from it and is not gone."
    );
    client
        .call("DELETE", &format!("/sandboxes/{child}"), None)
        .await;
    assert_eq!(client.call("DELETE", path, None).await.status, 204);
    assert_eq!(client.call("DELETE", path, None).await.status, 404);
    assert_eq!(
        client.call("DELETE", "/templates/base", None).await.status,
        501
    );
    assert_eq!(
        client.call("DELETE", "/templates/a%20b", None).await.status,
        400
    );
}

#[tokio::test]
async fn lists_filter_and_page() {
    let client = Client::new().await;
    let (one, two) = (
        client.create(json!({})).await,
        client.create(json!({})).await,
    );
    for (id, name) in [(&one, "a"), (&one, "b"), (&two, "c"), (&two, "b")] {
        take(&client, id, json!({"name": name})).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let ids = async |query: &str| {
        let list = client.get(&format!("/snapshots?{query}")).await.json();
        let ids = list.as_array().unwrap().iter();
        ids.map(|s| s["snapshotID"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["b:default", "c:default", "a:default"]);
    assert_eq!(ids(&format!("sandboxID={one}")).await, ["a:default"]);
    assert_eq!(ids("name=c").await, ["c:default"]);
    assert_eq!(ids("name=c:v2").await, [""; 0]);
    let mut seen = Vec::new();
    let mut query = "limit=1".to_owned();
    loop {
        let page = client.get(&format!("/snapshots?{query}")).await;
        let list = page.json();
        seen.push(list[0]["snapshotID"].as_str().unwrap().to_owned());
        match page.header("x-next-token") {
            Some(token) => query = format!("limit=1&nextToken={token}"),
            None => break,
        }
    }
    assert_eq!(seen, ["b:default", "c:default", "a:default"]);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let path = format!("/sandboxes/{id}/snapshots");
    let mut said = Vec::new();
    for body in [
        json!({"name": "a b"}),
        json!({"name": ""}),
        json!({"name": "team/mine"}),
        json!({"name": "base:v2"}),
        json!({"colour": "red"}),
    ] {
        said.push(client.post(&path, body).await.refusal());
    }
    for query in [
        "limit=0",
        "sandboxID=NO",
        "name=a b",
        "nextToken=x",
        "colour=red",
    ] {
        let query = query.replace(' ', "%20");
        said.push(client.get(&format!("/snapshots?{query}")).await.refusal());
    }
    insta::assert_snapshot!(said.join("\n"));
    client
        .post(&format!("/sandboxes/{id}/pause"), json!({}))
        .await;
    assert_eq!(client.post(&path, json!({})).await.status, 409);
    let unknown = client
        .post("/sandboxes/iunknown/snapshots", json!({}))
        .await;
    assert_eq!(unknown.status, 404);
}

fn build(id: &str, micros: i64) -> SavedCapture {
    let id = SnapshotId::parse(id).unwrap();
    SavedCapture {
        label: Some(Label {
            family: id.clone(),
            name: None,
            tag: "default".to_owned(),
        }),
        created_at: Moment::from_micros(micros),
        ..SavedCapture::new(id, Kind::Named, SandboxId::parse("ia").unwrap(), true)
    }
}

proptest::proptest! {
    #[test]
    fn pages_show_everything_once(times in proptest::collection::vec(0i64..4, 0..12), limit in 1usize..5) {
        let mut builds: Vec<_> = times.iter().enumerate().map(|(n, t)| build(&format!("s{n}"), *t)).collect();
        builds.sort_by_key(|row| row.created_at);
        let mut seen = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let query = json!({"limit": limit.to_string(), "nextToken": token});
            let query: ListQuery = serde_json::from_value(query).unwrap();
            let page = query.check().unwrap().page(builds.clone());
            seen.extend(page.infos.into_iter().map(|info| info.snapshot_id));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        proptest::prop_assert_eq!(distinct.len(), seen.len());
        proptest::prop_assert_eq!(seen.len(), times.len());
    }
}
