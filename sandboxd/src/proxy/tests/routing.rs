//! Which request reaches which port, and what it is told when it does not.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::routing::any;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

use super::Rig;

/// Tells what reached it.
fn echo() -> Router {
    Router::new().fallback(any(async |request: AxumRequest| {
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        let head = format!("{} {}", request.method(), request.uri());
        format!("{head}\n{}", headers.join("\n"))
    }))
}

fn with_headers(pairs: &[(&str, &str)], path: &str) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().uri(path);
    for (name, value) in pairs {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::default()).unwrap()
}

#[tokio::test]
async fn host_and_headers_lead_to_a_port_and_the_rest_to_the_api() {
    let rig = Rig::new().await;
    rig.serve(8_080, echo()).await;
    let by_host = rig.get(8_080, "/a%2Fb/../c?d=%20e").await;
    assert_eq!(by_host.status, 200);
    assert!(
        by_host.text.starts_with("GET /a%2Fb/../c?d=%20e\n"),
        "{}",
        by_host.text
    );
    assert!(by_host.text.contains(&format!("host: {}", rig.host(8_080))));
    assert!(by_host.text.contains("x-forwarded-for: 127.0.0.1"));
    let id = format!("{}-6532622b", rig.id);
    let pairs = [
        ("host", "sandbox.test"),
        ("e2b-sandbox-id", id.as_str()),
        ("e2b-sandbox-port", "8080"),
    ];
    assert_eq!(rig.send(with_headers(&pairs, "/")).await.status, 200);
    let api = rig
        .send(with_headers(&[("host", "localhost")], "/health"))
        .await;
    assert_eq!(api.text, "ok");
    let half = rig.send(with_headers(&pairs[..2], "/")).await;
    assert_eq!(half.status, 400);
    assert!(
        half.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    let odd = rig
        .send(with_headers(&[("host", "99999-iabc.test")], "/"))
        .await;
    assert_eq!(odd.status, 400);
}

#[tokio::test]
async fn http2_reaches_a_port_and_gets_its_host_passed_on() {
    let rig = Rig::new().await;
    rig.serve(8_080, echo()).await;
    let mut http2 = rig.http2::<Full<Bytes>>().await;
    let uri = format!("http://{}:3000/x?y", rig.host(8_080));
    let request = Request::builder().uri(uri).body(Full::default()).unwrap();
    let reply = super::read(http2.send_request(request).await.unwrap()).await;
    assert!(reply.text.starts_with("GET /x?y\n"), "{}", reply.text);
    assert!(
        reply
            .text
            .contains(&format!("host: {}:3000", rig.host(8_080)))
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_words_that_sdks_look_for() {
    let rig = Rig::new().await;
    let unknown = rig
        .send(with_headers(&[("host", "80-iunknown.test")], "/"))
        .await;
    assert_eq!(unknown.status, 502);
    insta::assert_snapshot!(unknown.text, @r#"{"sandboxId":"iunknown","message":"The sandbox was not found","code":502}"#);
    let closed = rig.get(8_080, "/").await;
    assert_eq!(closed.status, 502);
    assert_eq!(
        closed.json(),
        json!({"sandboxId": rig.id.as_str(), "message": "The sandbox is running but port is not open", "port": 8_080, "code": 502})
    );
    assert_eq!(rig.dials(), 5);
    let internal = rig.get(49_983, "//init").await;
    assert_eq!(internal.status, 404);
    insta::assert_snapshot!(internal.text, @r#"{"message":"The path is not available","path":"/init","code":404}"#);
}

#[tokio::test]
async fn a_port_that_opens_within_a_second_is_reached() {
    let rig = Rig::new().await;
    let later = async {
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        rig.serve(8_080, echo()).await;
    };
    let (reply, _) = tokio::join!(rig.get(8_080, "/"), later);
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn private_ports_ask_for_their_token_and_masks_change_the_host() {
    let network = json!({"allowPublicTraffic": false, "maskRequestHost": "inside:${PORT}"});
    let rig = Rig::with(json!({"network": network})).await;
    rig.serve(8_080, echo()).await;
    rig.serve(49_983, echo()).await;
    let missing = rig.get(8_080, "/").await;
    assert_eq!(missing.status, 403);
    assert_eq!(
        missing.json()["message"],
        "The header e2b-traffic-access-token is missing"
    );
    let with = |token: &str| {
        let host = rig.host(8_080);
        with_headers(&[("host", &host), ("e2b-traffic-access-token", token)], "/")
    };
    let wrong = rig.send(with("wrong")).await;
    assert_eq!(
        wrong.json()["message"],
        "The header e2b-traffic-access-token is invalid"
    );
    let sandbox = rig.client.manager.known(&rig.id).unwrap();
    let token = sandbox.facts.traffic_token.clone().unwrap();
    let right = rig.send(with(&token)).await;
    assert_eq!(right.status, 200);
    assert!(right.text.contains("host: inside:8080"), "{}", right.text);
    assert!(
        right
            .text
            .contains(&format!("x-forwarded-host: {}", rig.host(8_080)))
    );
    assert!(!right.text.contains(&token));
    let envd = rig.get(49_983, "/health").await;
    assert!(envd.text.contains(&format!("host: {}", rig.host(49_983))));
}

#[tokio::test]
async fn a_signed_url_finds_its_sandbox_without_being_told() {
    use base64::Engine;
    use sha2::Digest;
    let rig = Rig::new().await;
    let other = rig.client.create(json!({})).await;
    rig.serve(49_983, echo()).await;
    let sandbox = rig.client.manager.known(&rig.id).unwrap();
    let token = sandbox.facts.access_token.clone().unwrap();
    let digest = sha2::Sha256::digest(format!("a.txt:read::{token}"));
    let signature = base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest);
    let signature = signature.replace('+', "%2B").replace('/', "%2F");
    let path = format!("/files?path=a.txt&signature=v1_{signature}");
    let localhost = [("host", "localhost")];
    let found = rig.send(with_headers(&localhost, &path)).await;
    assert_eq!(found.status, 200);
    assert!(found.text.starts_with("GET /files?path=a.txt"));
    assert_eq!(rig.dials(), 1);
    let others = rig.client.house.fake.machine(&other).unwrap();
    assert_eq!(others.dials.load(std::sync::atomic::Ordering::Relaxed), 0);
    let forged = rig
        .send(with_headers(&localhost, "/files?path=a.txt&signature=v1_x"))
        .await;
    assert_eq!(
        forged.json(),
        json!({"code": 401, "message": "invalid signature"})
    );
    let bare = rig
        .send(with_headers(&localhost, "/files?path=a.txt"))
        .await;
    assert_eq!(
        bare.json(),
        json!({"code": 401, "message": "missing signature query parameter"})
    );
    assert_eq!(bare.status, 401);
}

#[tokio::test]
async fn connections_to_the_agent_are_used_again_and_those_of_others_with_care() {
    let rig = Rig::new().await;
    rig.serve(49_983, echo()).await;
    rig.serve(8_080, echo()).await;
    let counted = async |method: Method, port: u16| {
        let before = rig.dials();
        for _ in 0..3 {
            let request = rig.request(method.clone(), port, "/");
            assert_eq!(rig.send(request).await.status, 200);
            // The connection is kept a moment after its answer has passed.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        rig.dials() - before
    };
    assert_eq!(counted(Method::POST, 49_983).await, 1);
    assert_eq!(counted(Method::GET, 8_080).await, 1);
    assert_eq!(counted(Method::POST, 8_080).await, 3);
}

#[tokio::test]
async fn two_lengths_make_one_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::new().await;
    rig.serve(8_080, echo()).await;
    let mut stream = rig.connect().await;
    let host = rig.host(8_080);
    let smuggled = format!(
        "POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    // Either refused, or read as two requests of the client's own; never a length and an encoding towards the guest.
    assert!(!text.contains("content-length: 6"), "{text}");
}
