//! The routes as a client meets them: raw requests against the router.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RANGE};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::signature::{Operation, sign};
use crate::state::{AccessToken, AgentState, Settings};

const TOKEN: &str = "a-token";

/// A sandbox of one directory, whose user is whoever runs the tests.
struct Sandbox {
    dir: TempDir,
    router: Router,
}

impl Sandbox {
    fn new(access_token: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let passwd = format!(
            "user:x:{}:{}::{}:/bin/sh\n",
            uid.as_raw(),
            gid.as_raw(),
            home.display()
        );
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let settings = Settings {
            configured: true,
            access_token: access_token.and_then(|token| AccessToken::new(token.into())),
            ..Settings::default()
        };
        let router = super::router(AgentState::with_settings(dir.path(), settings));
        Self { dir, router }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join("home").join(name)
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, query: &str, headers: &[(&str, &str)]) -> Response {
        self.send(request("GET", query, headers, Body::empty()))
            .await
    }

    async fn put_bytes(&self, query: &str, body: impl Into<Body>) -> Response {
        let headers = [("content-type", "application/octet-stream")];
        self.send(request("POST", query, &headers, body.into()))
            .await
    }

    async fn put_form(&self, query: &str, parts: &[(&str, &str, &str)]) -> Response {
        let headers = [("content-type", "multipart/form-data; boundary=XX")];
        self.send(request("POST", query, &headers, form(parts).into()))
            .await
    }
}

fn request(method: &str, query: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/files{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// A form of `(part name, file name, content)`.
fn form(parts: &[(&str, &str, &str)]) -> String {
    let mut body = String::new();
    for (name, file, content) in parts {
        body += &format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: text/plain\r\n\r\n{content}\r\n"
        );
    }
    body + "--XX--\r\n"
}

async fn bytes(response: Response) -> Vec<u8> {
    response
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .to_vec()
}

async fn json_of(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (
        status,
        serde_json::from_slice(&bytes(response).await).unwrap(),
    )
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bytes_go_up_and_come_down() {
    let sandbox = Sandbox::new(None);
    let answer = json_of(sandbox.put_bytes("?path=d/a.txt", "hello").await).await;
    let path = sandbox.home("d/a.txt");
    assert_eq!(answer.0, StatusCode::OK);
    assert_eq!(
        answer.1,
        json!([{"path": path, "name": "a.txt", "type": "file"}])
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(
        fs::metadata(sandbox.home("d")).unwrap().mode() & 0o7777,
        0o755
    );

    let response = sandbox.get("?path=d/a.txt", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        header(&response, "content-type"),
        "text/plain; charset=utf-8"
    );
    assert_eq!(
        header(&response, "content-disposition"),
        "inline; filename=a.txt"
    );
    assert_eq!(header(&response, "content-length"), "5");
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert_eq!(bytes(response).await, b"hello");
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let sandbox = Sandbox::new(None);
    assert_eq!(
        sandbox.put_bytes("?path=e", "").await.status(),
        StatusCode::OK
    );
    let response = sandbox.get("?path=e", &[]).await;
    assert_eq!(
        (response.status(), header(&response, "content-length")),
        (StatusCode::OK, "0")
    );
    assert_eq!(bytes(response).await, b"");
    let packed = sandbox.get("?path=e", &[("accept-encoding", "gzip")]).await;
    let packed = bytes(packed).await;
    let mut plain = Vec::new();
    GzDecoder::new(packed.as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain, b"");
}

#[tokio::test]
async fn files_that_claim_to_be_empty_are_read_to_their_end() {
    let sandbox = Sandbox::new(None);
    let response = sandbox.get("?path=/proc/self/status", &[]).await;
    assert_eq!(header(&response, "content-length"), "");
    let text = String::from_utf8(bytes(response).await).unwrap();
    assert!(
        text.starts_with("Name:") && text.contains("\nUid:"),
        "{text}"
    );
}

#[tokio::test]
async fn forms_keep_slashes_and_answer_in_order() {
    let sandbox = Sandbox::new(None);
    let parts = [
        ("file", "x/y/1.txt", "one"),
        ("note", "n", "ignored"),
        ("file", "2.txt", "two"),
    ];
    let (status, answer) = json_of(sandbox.put_form("", &parts).await).await;
    assert_eq!(status, StatusCode::OK);
    let names: Vec<_> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["name"])
        .collect();
    assert_eq!(names, ["1.txt", "2.txt"]);
    assert_eq!(fs::read(sandbox.home("x/y/1.txt")).unwrap(), b"one");
    assert_eq!(fs::read(sandbox.home("2.txt")).unwrap(), b"two");
    assert!(!sandbox.home("n").exists());
}

#[tokio::test]
async fn the_query_names_the_file_of_a_form() {
    let sandbox = Sandbox::new(None);
    let response = sandbox
        .put_form("?path=here.txt", &[("file", "there.txt", "1")])
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(fs::read(sandbox.home("here.txt")).unwrap(), b"1");
    assert!(!sandbox.home("there.txt").exists());
}

#[tokio::test]
async fn the_same_file_twice_is_refused_and_the_first_one_stays() {
    let sandbox = Sandbox::new(None);
    let parts = [("file", "a", "first"), ("file", "./a", "second")];
    let (status, answer) = json_of(sandbox.put_form("", &parts).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("multiple files to the same path")
    );
    assert_eq!(fs::read(sandbox.home("a")).unwrap(), b"first");
}

#[tokio::test]
async fn compression_works_both_ways_and_for_both_forms() {
    let sandbox = Sandbox::new(None);
    let content = "line\n".repeat(100_000);
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-encoding", "gzip"),
    ];
    let body = gzip(content.as_bytes());
    let response = sandbox
        .send(request("POST", "?path=b", &headers, body.into()))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(fs::read(sandbox.home("b")).unwrap() == content.as_bytes());

    let mut form_request = request(
        "POST",
        "",
        &[],
        gzip(form(&[("file", "f", &content)]).as_bytes()).into(),
    );
    form_request.headers_mut().insert(
        CONTENT_TYPE,
        "multipart/form-data; boundary=XX".parse().unwrap(),
    );
    form_request
        .headers_mut()
        .insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(sandbox.send(form_request).await.status(), StatusCode::OK);
    assert!(fs::read(sandbox.home("f")).unwrap() == content.as_bytes());

    let response = sandbox
        .get("?path=b", &[("accept-encoding", "gzip, deflate")])
        .await;
    assert_eq!(header(&response, "content-encoding"), "gzip");
    assert_eq!(header(&response, "vary"), "Accept-Encoding");
    let packed = bytes(response).await;
    assert!(packed.len() < content.len() / 10);
    let mut plain = String::new();
    GzDecoder::new(packed.as_slice())
        .read_to_string(&mut plain)
        .unwrap();
    assert!(plain == content);
}

#[tokio::test]
async fn what_does_not_shrink_is_sent_as_it_is() {
    let sandbox = Sandbox::new(None);
    // Noise: the low bytes of a linear congruence with a large modulus.
    let noise: Vec<u8> = (0..200_000u64)
        .scan(1u64, |seed, _| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Some(seed.to_be_bytes()[0])
        })
        .collect();
    fs::write(sandbox.home("large"), &noise).unwrap();
    fs::write(sandbox.home("small"), &noise[..1000]).unwrap();
    let response = sandbox
        .get("?path=large", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(header(&response, "content-encoding"), "");
    assert_eq!(header(&response, "content-length"), "200000");
    assert!(bytes(response).await == noise);
    let response = sandbox
        .get("?path=small", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(header(&response, "content-encoding"), "gzip");
    let response = sandbox
        .get("?path=large", &[("range", "bytes=199990-")])
        .await;
    assert!(bytes(response).await == noise[199_990..]);
}

#[tokio::test]
async fn ranges_are_never_compressed() {
    let sandbox = Sandbox::new(None);
    sandbox.put_bytes("?path=r", "0123456789").await;
    let mut part = request("GET", "?path=r", &[], Body::empty());
    part.headers_mut()
        .insert(RANGE, "bytes=2-4".parse().unwrap());
    part.headers_mut()
        .insert(ACCEPT_ENCODING, "gzip".parse().unwrap());
    let response = sandbox.send(part).await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&response, "content-range"), "bytes 2-4/10");
    assert_eq!(bytes(response).await, b"234");
    let response = sandbox.get("?path=r", &[("range", "bytes=10-")]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&response, "content-range"), "bytes */10");
    let date = header(&sandbox.get("?path=r", &[]).await, "last-modified").to_owned();
    let response = sandbox
        .get("?path=r", &[("if-modified-since", &date)])
        .await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn refusals_have_a_status_and_a_sentence() {
    let sandbox = Sandbox::new(None);
    fs::create_dir(sandbox.home("d")).unwrap();
    for (query, headers, status) in [
        (
            "?path=none",
            [("accept-encoding", "gzip")],
            StatusCode::NOT_FOUND,
        ),
        (
            "?path=d",
            [("accept-encoding", "gzip")],
            StatusCode::BAD_REQUEST,
        ),
        (
            "?path=/dev/zero",
            [("accept-encoding", "gzip")],
            StatusCode::BAD_REQUEST,
        ),
        (
            "?path=~nobody/x",
            [("accept-encoding", "gzip")],
            StatusCode::BAD_REQUEST,
        ),
        (
            "?path=a&username=ghost",
            [("accept-encoding", "gzip")],
            StatusCode::UNAUTHORIZED,
        ),
        (
            "?path=/etc/passwd",
            [("accept-encoding", "identity;q=0, br")],
            StatusCode::NOT_ACCEPTABLE,
        ),
        (
            "?path=a&signature_expiration=x",
            [("accept-encoding", "gzip")],
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let (found, body) = json_of(sandbox.get(query, &headers).await).await;
        assert_eq!(found, status, "{query}: {body}");
        assert_eq!(body["code"], status.as_u16(), "{query}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    for (query, content_type, body, status) in [
        ("", "application/octet-stream", "1", StatusCode::BAD_REQUEST),
        ("?path=a", "text/plain", "1", StatusCode::BAD_REQUEST),
        (
            "?path=a",
            "multipart/form-data",
            "1",
            StatusCode::BAD_REQUEST,
        ),
        (
            "?path=d",
            "application/octet-stream",
            "1",
            StatusCode::BAD_REQUEST,
        ),
        (
            "?path=/etc/passwd/x",
            "application/octet-stream",
            "1",
            StatusCode::BAD_REQUEST,
        ),
        (
            "",
            "multipart/form-data; boundary=XX",
            "--XX\r\nbroken",
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let headers = [("content-type", content_type)];
        let sent = request("POST", query, &headers, body.into());
        let (found, body) = json_of(sandbox.send(sent).await).await;
        assert_eq!(found, status, "{query} {content_type}: {body}");
        assert_eq!(body["code"], status.as_u16());
    }
    for (coding, body) in [("br", "1"), ("gzip", "this is not gzip")] {
        let headers = [
            ("content-type", "application/octet-stream"),
            ("content-encoding", coding),
        ];
        let response = sandbox
            .send(request("POST", "?path=a", &headers, body.into()))
            .await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{coding}");
    }
}

#[tokio::test]
async fn a_token_or_a_signature_opens_the_door() {
    let sandbox = Sandbox::new(Some(TOKEN));
    fs::write(sandbox.home("a b"), "1").unwrap();
    let message = |response: Response| async {
        let (status, body) = json_of(response).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::UNAUTHORIZED, &json!(401))
        );
        body["message"].as_str().unwrap().to_owned()
    };
    let refused = sandbox.get("?path=a%20b", &[]).await;
    assert_eq!(message(refused).await, "missing signature query parameter");
    let refused = sandbox.get("?path=a%20b&signature=v1_x", &[]).await;
    assert_eq!(message(refused).await, "invalid signature");
    let refused = sandbox
        .get("?path=a%20b", &[("x-access-token", "other")])
        .await;
    assert_eq!(
        message(refused).await,
        "access token present in header but does not match"
    );
    let opened = sandbox
        .get("?path=a%20b", &[("x-access-token", TOKEN)])
        .await;
    assert_eq!(opened.status(), StatusCode::OK);

    let encode = |signature: String| signature.replace('+', "%2B").replace('/', "%2F");
    let signature = encode(sign("a b", Operation::Read, "", TOKEN, None));
    // Both ways SDKs write a space.
    for path in ["a%20b", "a+b"] {
        let query = format!("?path={path}&signature={signature}");
        assert_eq!(sandbox.get(&query, &[]).await.status(), StatusCode::OK);
    }
    let query = format!("?path=a+b&username=user&signature={signature}");
    assert_eq!(
        sandbox.get(&query, &[]).await.status(),
        StatusCode::UNAUTHORIZED
    );
    let expired = encode(sign("a b", Operation::Read, "user", TOKEN, Some(1000)));
    let query = format!("?path=a+b&username=user&signature_expiration=1000&signature={expired}");
    assert_eq!(
        message(sandbox.get(&query, &[]).await).await,
        "signature is already expired"
    );
    let write = encode(sign("new", Operation::Write, "user", TOKEN, Some(i64::MAX)));
    let query = format!(
        "?path=new&username=user&signature_expiration={}&signature={write}",
        i64::MAX
    );
    assert_eq!(
        sandbox.put_bytes(&query, "1").await.status(),
        StatusCode::OK
    );
    let refused = sandbox
        .send(request("POST", "/compose", &[], Body::empty()))
        .await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn metadata_is_set_replaced_cleared_and_told() {
    let sandbox = Sandbox::new(None);
    fs::write(sandbox.home("probe"), "").unwrap();
    let probe = fs::File::open(sandbox.home("probe")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::fsetxattr(&probe, "user.probe", b"1", flags).is_err() {
        eprintln!("not tested here: this file system has no user extended attributes");
        return;
    }
    let put = async |headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/octet-stream")];
        all.extend_from_slice(headers);
        json_of(
            sandbox
                .send(request("POST", "?path=m", &all, "1".into()))
                .await,
        )
        .await
    };
    let kept = || crate::filesystem::metadata::read(&sandbox.home("m"));
    let (_, answer) = put(&[("X-Metadata-Team", "blue"), ("x-metadata-run", "7")]).await;
    assert_eq!(answer[0]["metadata"], json!({"team": "blue", "run": "7"}));
    assert_eq!(kept().len(), 2);
    let (_, answer) = put(&[("x-metadata-run", "8")]).await;
    assert_eq!(answer[0]["metadata"], json!({"run": "8"}));
    assert_eq!(
        kept().into_iter().collect::<Vec<_>>(),
        [("run".into(), "8".into())]
    );
    let (_, answer) = put(&[]).await;
    assert_eq!(answer[0].get("metadata"), None);
    assert!(kept().is_empty());
    let (status, _) = put(&[("x-metadata-a", "caf\u{e9}")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_watcher_counts_three_events_for_a_new_file() {
    use crate::filesystem::watch::Watcher;
    use crate::filesystem::watch::event::Change;
    use crate::filesystem::watch::tree::Request as WatchRequest;
    let sandbox = Sandbox::new(None);
    let asked = WatchRequest {
        path: sandbox.home(""),
        recursive: false,
        include_entry: false,
    };
    let watcher = Watcher::open(asked, true, Default::default())
        .await
        .unwrap();
    sandbox
        .put_form("?path=new.txt", &[("file", "new.txt", "content")])
        .await;
    let changes: Vec<_> = watcher
        .drain()
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.change)
        .collect();
    assert_eq!(changes, [Change::Create, Change::Chmod, Change::Write]);
}

#[tokio::test]
async fn pieces_are_joined_and_removed() {
    let sandbox = Sandbox::new(None);
    for (name, content) in [("p0", "one,"), ("p1", "two,"), ("p2", "three")] {
        fs::write(sandbox.home(name), content).unwrap();
    }
    let compose = async |body: Value| {
        let headers = [("content-type", "application/json")];
        let body = Body::from(body.to_string());
        json_of(
            sandbox
                .send(request("POST", "/compose", &headers, body))
                .await,
        )
        .await
    };
    let (status, answer) =
        compose(json!({"source_paths": ["p0", "p1", "p2"], "destination": "out/all"})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["path"], json!(sandbox.home("out/all")));
    assert_eq!(fs::read(sandbox.home("out/all")).unwrap(), b"one,two,three");
    assert!(!sandbox.home("p0").exists());
    assert_eq!(
        fs::read_dir(sandbox.home("out")).unwrap().count(),
        1,
        "no staging is left"
    );
    for (body, expected) in [
        (
            json!({"source_paths": [], "destination": "x"}),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({"source_paths": ["p9"], "destination": "x"}),
            StatusCode::NOT_FOUND,
        ),
        (
            json!({"source_paths": ["out"], "destination": "x"}),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({"source_paths": ["out/all"], "destination": "out/all"}),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({"source_paths": ["out/all"], "destination": ""}),
            StatusCode::BAD_REQUEST,
        ),
        (json!({"destination": "x"}), StatusCode::BAD_REQUEST),
    ] {
        let (status, answer) = compose(body).await;
        assert_eq!(status, expected, "{answer}");
        assert_eq!(answer["code"], expected.as_u16());
    }
}
