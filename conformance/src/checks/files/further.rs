//! What few clients use: conditions, joining, a full disk, an address that names no sandbox.

use http::Method;
use serde_json::json;

use super::signed::made;
use crate::check::{Check, Stop, Verdict, equal};
use crate::checks::proxy::shared_door;
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::{percent, signature};
use crate::wire::request::Request;

pub const CHECKS: &[Check] = &[
    Check::new(
        "files/conditional",
        &["conditional-ignored"],
        "A file that has not changed since is a 304.",
        |c| Box::pin(conditional(c)),
    ),
    Check::new(
        "files/compose",
        &["compose-missing"],
        "POST /files/compose joins files.",
        |c| Box::pin(compose(c)),
    ),
    Check::new(
        "files/no-space",
        &["no-space-500"],
        "A full disk is a 507.",
        |c| Box::pin(no_space(c)),
    ),
    Check::new(
        "files/metadata-key-limit",
        &["file-metadata-unlimited"],
        "A metadata key of more than 246 bytes is a 400.",
        |c| Box::pin(key_limit(c)),
    ),
    Check::new(
        "files/signed-without-id",
        &["signed-url-needs-id"],
        "A signed address that names no sandbox leads to the one whose token signs it.",
        |c| Box::pin(without_id(c)),
    ),
];

async fn conditional(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}.txt", c.unique());
    sandbox.put(&c, &path, b"the same").await?;
    let first = sandbox.read_file(&c, &path).await?;
    first.status(200)?;
    let query = format!("/files?path={}", percent(&path));
    let again = sandbox.agent(&c, Method::GET, &query);
    // Whichever of the two the server gives.
    let again = match (first.header("etag"), first.header("last-modified")) {
        ("", since) => again.header("if-modified-since", since),
        (tag, _) => again.header("if-none-match", tag),
    };
    c.send(again).await?.status(304).map(|_| ())
}

async fn compose(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}", c.unique());
    let sources = [format!("{path}-1"), format!("{path}-2")];
    sandbox.put(&c, &sources[0], b"one ").await?;
    sandbox.put(&c, &sources[1], b"two").await?;
    let body = json!({ "source_paths": sources, "destination": path, "username": "user" });
    let request = sandbox
        .agent(&c, Method::POST, "/files/compose")
        .json(&body);
    c.send(request).await?.status(200)?;
    let file = sandbox.read_file(&c, &path).await?;
    equal("content", file.status(200)?.text().as_str(), "one two")
}

fn post(c: &Context, sandbox: &Sandbox, path: &str) -> Request {
    let query = format!("/files?path={}", percent(path));
    sandbox
        .agent(c, Method::POST, &query)
        .header("content-type", "application/octet-stream")
}

async fn no_space(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let root = Some("root");
    let folder = "/home/user/small";
    let commands = [
        format!("mkdir -p {folder}"),
        format!("mount -t tmpfs -o size=64k,mode=777 tmpfs {folder}"),
    ];
    for command in commands {
        let done = sandbox.run_with(&c, &command, json!({}), root).await?;
        if done.exit_code() != 0 {
            let why = "root cannot make a small file system";
            return Err(Stop::Untestable(why.to_owned()));
        }
    }
    let large = post(&c, &sandbox, &format!("{folder}/large")).body(vec![b'x'; 1_000_000]);
    c.send(large).await?.refusal(507).map(|_| ())
}

async fn key_limit(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}", c.unique());
    for (length, status) in [(200, 200), (247, 400)] {
        let name = format!("x-metadata-{}", "k".repeat(length));
        let request = post(&c, &sandbox, &path).header(&name, "v").body("x");
        c.send(request).await?.status(status)?;
    }
    Ok(())
}

async fn without_id(c: Context) -> Verdict {
    let url = shared_door(&c)?;
    let (_, token, path) = made(&c).await?;
    let signature = signature(&path, "read", "user", &token, None);
    let query = format!(
        "/files?path={}&username=user&signature={}",
        percent(&path),
        percent(&signature)
    );
    let way = &c.target().way;
    let request = Request::new(way, Method::GET, &url, &query, c.usual());
    let reply = c.send(request).await?;
    equal("content", reply.status(200)?.text().as_str(), "signed")
}
