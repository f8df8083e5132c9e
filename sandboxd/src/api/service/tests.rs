//! The service's own answers, for which no key is asked.

use axum::body::Body;
use http::Request;

use crate::api::tests::Client;

#[tokio::test]
async fn health_document_and_counters_are_open() {
    let client = Client::new().await;
    let get = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        client.send(request).await
    };
    let health = get("/health").await;
    assert_eq!((health.status, health.text.as_str()), (200, "ok"));
    let document = get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let metrics = get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .contains("version=0.0.4")
    );
    assert!(
        metrics
            .text
            .contains("sandboxd_api_responses_total{class=\"2xx\"} 2\n")
    );
}
