//! Symbolic links.

use serde_json::Value;

use super::listing::{list, tree};
use super::stat::stat;
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;

pub const CHECKS: &[Check] = &[
    Check::new(
        "filesystem/broken-link",
        &["broken-link-as-file"],
        "A broken link's type is unspecified.",
        |c| Box::pin(broken(c)),
    ),
    Check::new(
        "filesystem/list-root-link",
        &["list-root-link-empty", "list-root-resolved"],
        "A root that is a link is followed, and paths are below the link.",
        |c| Box::pin(root_link(c)),
    ),
    Check::new(
        "filesystem/list-inner-links",
        &["list-follows-links"],
        "Links below the root are not followed.",
        |c| Box::pin(inner_link(c)),
    ),
];

async fn link(c: &Context, sandbox: &Sandbox, to: &str, path: &str) -> Verdict {
    let done = sandbox.run(c, &format!("ln -s {to} {path}")).await?;
    if done.exit_code() == 0 {
        return Ok(());
    }
    Err(Stop::Untestable("no link was made".to_owned()))
}

async fn broken(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}", c.unique());
    link(&c, &sandbox, "/no/such/target", &path).await?;
    let entry = stat(&c, &sandbox, &path).await?;
    // In JSON a default value may be left out.
    let kind = entry["type"].as_str().unwrap_or("FILE_TYPE_UNSPECIFIED");
    equal("type", kind, "FILE_TYPE_UNSPECIFIED")
}

fn paths(body: &Value) -> Vec<String> {
    let entries = body["entries"].as_array().into_iter().flatten();
    let paths = entries.filter_map(|entry| entry["path"].as_str());
    paths.map(str::to_owned).collect()
}

async fn root_link(c: Context) -> Verdict {
    let (sandbox, path) = tree(&c).await?;
    let root = format!("/home/user/{}", c.unique());
    link(&c, &sandbox, &path, &root).await?;
    let body = list(&c, &sandbox, &root, 1).await?.status(200)?.json()?;
    let wanted: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| format!("{root}/{name}"))
        .collect();
    equal("paths", &paths(&body), &wanted)
}

async fn inner_link(c: Context) -> Verdict {
    let (sandbox, path) = tree(&c).await?;
    let root = format!("/home/user/{}", c.unique());
    sandbox.put(&c, &format!("{root}/file"), b"x").await?;
    link(&c, &sandbox, &path, &format!("{root}/link")).await?;
    let body = list(&c, &sandbox, &root, 3).await?.status(200)?.json()?;
    let paths = paths(&body);
    let beyond = paths.iter().find(|path| path.ends_with("/inner"));
    expect(
        beyond.is_none() && paths.len() == 2,
        "the file and the link",
        format!("{paths:?}"),
    )
}
