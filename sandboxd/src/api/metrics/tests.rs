//! Resource use over fake machines.

use serde_json::json;

use crate::api::tests::Client;

#[tokio::test]
async fn a_sample_is_taken_when_it_is_asked_for() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let answer = client.get(&format!("/sandboxes/{id}/metrics")).await;
    let mut metrics = answer.redacted();
    metrics[0]["timestamp"] = json!("<time>");
    insta::assert_json_snapshot!(metrics, @r#"
    [
      {
        "cpuCount": 2,
        "cpuUsedPct": 12.5,
        "diskTotal": 10737418240,
        "diskUsed": 1048576,
        "memCache": 33554432,
        "memTotal": 536870912,
        "memUsed": 67108864,
        "timestamp": "<time>",
        "timestampUnix": "<seconds>"
      }
    ]
    "#);
    let before = client
        .get(&format!("/sandboxes/{id}/metrics?start=0&end=1000"))
        .await;
    assert_eq!(before.json(), json!([]));
}

#[tokio::test]
async fn many_sandboxes_are_asked_about_at_once() {
    let client = Client::new().await;
    let id = client.create(json!({})).await;
    let answer = client
        .get(&format!("/sandboxes/metrics?sandbox_ids={id},iunknown"))
        .await;
    let sandboxes = &answer.json()["sandboxes"];
    assert_eq!(sandboxes.as_object().unwrap().len(), 1);
    assert_eq!(sandboxes[id.as_str()]["cpuCount"], 2);
    for bad in ["", "?sandbox_ids=", "?sandbox_ids=UP"] {
        let answer = client.get(&format!("/sandboxes/metrics{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let unknown = client.get("/sandboxes/iunknown/metrics").await;
    assert_eq!(unknown.status, 404);
}
