//! ListDir.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "filesystem/list",
        &["depth-ignored", "list-unsorted", "list-relative-paths"],
        "ListDir of depth 1 gives the folder's entries, sorted, with absolute paths.",
        |c| Box::pin(one(c)),
    ),
    Check::new(
        "filesystem/list-depth",
        &["depth-always-one"],
        "ListDir of depth 2 goes into folders, parents first.",
        |c| Box::pin(two(c)),
    ),
    Check::new(
        "filesystem/list-depth-zero",
        &["depth-zero-empty"],
        "Depth 0 is depth 1.",
        |c| Box::pin(zero(c)),
    ),
    Check::new(
        "filesystem/list-file",
        &["list-file-200"],
        "ListDir of a file is invalid_argument.",
        |c| Box::pin(file(c)),
    ),
    Check::new(
        "filesystem/list-missing",
        &["list-missing-empty"],
        "ListDir of a missing path is not_found.",
        |c| Box::pin(missing(c)),
    ),
];

/// A folder with `a/`, `a/inner`, `b`, `c`.
pub async fn tree(c: &Context) -> Result<(Sandbox, String), Stop> {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}", c.unique());
    for file in ["c", "a/inner", "b"] {
        sandbox.put(c, &format!("{path}/{file}"), b"x").await?;
    }
    Ok((sandbox, path))
}

pub async fn list(c: &Context, sandbox: &Sandbox, path: &str, depth: u32) -> Result<Reply, Stop> {
    let body = json!({ "path": path, "depth": depth });
    sandbox.rpc(c, "filesystem.Filesystem/ListDir", &body).await
}

async fn listed(c: &Context, depth: u32, wanted: &[&str]) -> Verdict {
    let (sandbox, path) = tree(c).await?;
    let body = list(c, &sandbox, &path, depth).await?.status(200)?.json()?;
    let entries = body["entries"].as_array().cloned().unwrap_or_default();
    let paths: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry["path"].as_str())
        .map(str::to_owned)
        .collect();
    let wanted: Vec<String> = wanted.iter().map(|name| format!("{path}/{name}")).collect();
    equal("paths", &paths, &wanted)?;
    let first = entries.first().cloned().unwrap_or(Value::Null);
    equal(
        "type of the first",
        &first["type"],
        &json!("FILE_TYPE_DIRECTORY"),
    )
}

async fn one(c: Context) -> Verdict {
    listed(&c, 1, &["a", "b", "c"]).await
}

async fn two(c: Context) -> Verdict {
    listed(&c, 2, &["a", "a/inner", "b", "c"]).await
}

async fn zero(c: Context) -> Verdict {
    listed(&c, 0, &["a", "b", "c"]).await
}

async fn file(c: Context) -> Verdict {
    let (sandbox, path) = tree(&c).await?;
    list(&c, &sandbox, &format!("{path}/b"), 1)
        .await?
        .connect_error("invalid_argument", 400)
        .map(|_| ())
}

async fn missing(c: Context) -> Verdict {
    let (sandbox, path) = (c.shared().await?, format!("/no/such/{}", c.unique()));
    list(&c, &sandbox, &path, 1)
        .await?
        .connect_error("not_found", 404)
        .map(|_| ())
}
