//! Replacing network options over fake machines.

use serde_json::json;

use crate::api::tests::Client;

#[tokio::test]
async fn an_update_replaces_the_lists_and_keeps_the_rest() {
    let client = Client::new().await;
    let network = json!({"allowOut": ["1.1.1.1"], "maskRequestHost": "a"});
    let id = client.create(json!({"network": network})).await;
    let path = format!("/sandboxes/{id}/network");
    let update = json!({"denyOut": ["8.8.8.8"], "allow_internet_access": true});
    let answer = client.call("PUT", &path, Some(update)).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let detail = client.detail(&id).await;
    assert_eq!(
        detail["network"],
        json!({"denyOut": ["8.8.8.8"], "maskRequestHost": "a"})
    );
    assert_eq!(detail["allowInternetAccess"], json!(true));
    let bad = json!({"allowOut": ["example.com"]});
    assert_eq!(client.call("PUT", &path, Some(bad)).await.status, 400);
    client
        .post(&format!("/sandboxes/{id}/pause"), json!({}))
        .await;
    let paused = client.call("PUT", &path, Some(json!({}))).await;
    assert_eq!(paused.status, 409, "only of a sandbox that runs");
    let other = "/sandboxes/iunknown/network";
    assert_eq!(client.call("PUT", other, Some(json!({}))).await.status, 404);
}
