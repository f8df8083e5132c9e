//! An in-process client of the API over fake machines, for the tests of each resource.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::auth::KeyRing;
use super::{App, Shared, router};
use crate::egress::Verdict;
use crate::ids::{SandboxId, secret_hash};
use crate::lifecycle::manager::Manager;
use crate::lifecycle::tests::House;
use crate::moment::Moment;
use crate::store::keys::ApiKey;

const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// A daemon without its sockets.
pub struct Client {
    pub house: House,
    pub manager: Arc<Manager>,
    pub app: App,
    router: Router,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub async fn new() -> Self {
        let house = House::new();
        let key = ApiKey {
            id: "test".to_owned(),
            name: "test".to_owned(),
            hash: secret_hash(KEY),
            mask: "e2b_01…67".to_owned(),
            created_at: Moment::now(),
            revoked_at: None,
        };
        house.store.add_key(key).await.unwrap();
        let manager = house.manager();
        let app = App::new(Shared {
            manager: manager.clone(),
            templates: house.templates.clone(),
            keys: KeyRing::new(house.store.clone()),
            domain: None,
            services: crate::services::Services::default(),
            default_egress: Verdict::Deny,
        });
        Self {
            house,
            manager,
            router: router(app.clone()),
            app,
        }
    }

    /// Sends any request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Sends a request with the key and perhaps a JSON body.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map_or(Body::empty(), |value| Body::from(value.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", KEY)
            .body(body)
            .unwrap();
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    /// Creates a sandbox and returns its id.
    pub async fn create(&self, mut body: Value) -> SandboxId {
        if body.get("templateID").is_none() {
            body["templateID"] = json!("base");
        }
        let answer = self.post("/v2/sandboxes", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        SandboxId::parse(answer.json()["sandboxID"].as_str().unwrap()).unwrap()
    }

    /// The detail of a sandbox.
    pub async fn detail(&self, id: &SandboxId) -> Value {
        self.get(&format!("/sandboxes/{id}")).await.json()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The body with what changes from run to run replaced by a note of its form.
    pub fn redacted(&self) -> Value {
        let mut value = self.json();
        redact(&mut value);
        value
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and message of a refusal.
    pub fn refusal(&self) -> String {
        let body = self.json();
        assert_eq!(body["code"], self.status);
        format!("{} {}", self.status, body["message"].as_str().unwrap())
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let note = match (name.as_str(), &*member) {
                    ("sandboxID", Value::String(id)) if id.len() == 21 => "<id>",
                    ("envdAccessToken" | "trafficAccessToken", Value::String(t))
                        if t.len() == 32 =>
                    {
                        "<token>"
                    }
                    ("startedAt" | "endAt" | "timestamp" | "lastSpawnedAt", Value::String(t))
                        if t.len() == 27 && t.ends_with('Z') =>
                    {
                        "<time>"
                    }
                    ("timestampUnix", Value::Number(_)) => "<seconds>",
                    _ => {
                        redact(member);
                        continue;
                    }
                };
                *member = Value::from(note);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[tokio::test]
async fn a_key_is_asked_for_before_anything_else() {
    let client = Client::new().await;
    for key in [None, Some(""), Some("e2b_00"), Some("\u{e4}")] {
        let mut request = Request::builder().method("POST").uri("/v2/sandboxes");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let answer = client.send(request.body(Body::from("{")).unwrap()).await;
        assert_eq!(answer.status, 401, "{key:?}");
        assert_eq!(answer.json()["code"], 401);
    }
    assert_eq!(client.post("/v2/sandboxes", json!({})).await.status, 400);
}

#[tokio::test]
async fn what_is_not_there_says_so_in_the_bodys_form() {
    let client = Client::new().await;
    insta::assert_snapshot!(client.get("/nope").await.refusal(), @"404 There is no GET /nope in this API.");
    insta::assert_snapshot!(
        client.call("PUT", "/sandboxes", None).await.refusal(),
        @"405 PUT /sandboxes does not take this method."
    );
}

#[tokio::test]
async fn browsers_may_call_from_anywhere_and_read_the_paging() {
    let client = Client::new().await;
    let preflight = Request::builder()
        .method("OPTIONS")
        .uri("/v2/sandboxes")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key,content-type")
        .body(Body::empty())
        .unwrap();
    let answer = client.send(preflight).await;
    assert_eq!(answer.status, StatusCode::OK.as_u16());
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("*"));
    let answer = client.get("/v2/sandboxes").await;
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in ["x-next-token", "x-total-running", "retry-after"] {
        assert!(exposed.contains(name), "{name}");
    }
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn bodies_have_a_bound() {
    let client = Client::new().await;
    let long = json!({"templateID": "x".repeat(1 << 20)});
    assert_eq!(client.post("/v2/sandboxes", long).await.status, 413);
}
