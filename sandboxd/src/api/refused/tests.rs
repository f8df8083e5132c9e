//! Every refused route answers as such.

use crate::api::tests::Client;

#[tokio::test]
async fn every_route_names_its_feature() {
    let client = Client::new().await;
    for route in super::ROUTES {
        let path: Vec<_> = route
            .path
            .split('/')
            .map(|segment| {
                if segment.starts_with('{') {
                    "x1"
                } else {
                    segment
                }
            })
            .collect();
        let answer = client.call(route.method, &path.join("/"), None).await;
        assert_eq!(answer.status, 501, "{} {}", route.method, route.path);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with("is not supported by this server."));
        assert_eq!(answer.header("should-retry"), Some("false"));
    }
}
