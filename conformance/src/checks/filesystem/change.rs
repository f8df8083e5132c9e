//! Making, moving and removing.

use serde_json::{Value, json};

use super::stat::stat;
use crate::check::{Check, Stop, Verdict, equal};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "filesystem/make-dir",
        &[
            "make-dir-without-entry",
            "make-dir-mode-0777",
            "make-dir-owner-root",
        ],
        "MakeDir makes a folder of the user, 0755, and gives its entry.",
        |c| Box::pin(make_dir(c)),
    ),
    Check::new(
        "filesystem/make-dir-parents",
        &["make-dir-no-parents"],
        "MakeDir makes the parents.",
        |c| Box::pin(parents(c)),
    ),
    Check::new(
        "filesystem/make-dir-existing",
        &["make-dir-existing-200"],
        "MakeDir of an existing folder is already_exists.",
        |c| Box::pin(existing(c)),
    ),
    Check::new(
        "filesystem/make-dir-over-file",
        &["make-dir-over-file-200"],
        "MakeDir over a file is invalid_argument.",
        |c| Box::pin(over_file(c)),
    ),
    Check::new(
        "filesystem/move",
        &["move-copies", "move-without-entry"],
        "Move takes content along and leaves nothing.",
        |c| Box::pin(moved(c)),
    ),
    Check::new(
        "filesystem/move-parents",
        &["move-no-parents"],
        "Move makes the destination's parents.",
        |c| Box::pin(move_parents(c)),
    ),
    Check::new(
        "filesystem/move-missing",
        &["move-missing-200"],
        "Moving what is not there is not_found.",
        |c| Box::pin(move_missing(c)),
    ),
    Check::new(
        "filesystem/remove",
        &["remove-ignored"],
        "Remove takes a file away.",
        |c| Box::pin(remove(c)),
    ),
    Check::new(
        "filesystem/remove-recursive",
        &["remove-only-empty"],
        "Remove takes a folder with all that is in it.",
        |c| Box::pin(recursive(c)),
    ),
    Check::new(
        "filesystem/remove-missing",
        &["remove-missing-404"],
        "Removing what is not there is no error.",
        |c| Box::pin(remove_missing(c)),
    ),
    Check::new(
        "filesystem/move-over",
        &["move-over-existing-409"],
        "Move over a file replaces it.",
        |c| Box::pin(move_over(c)),
    ),
];

async fn call(c: &Context, sandbox: &Sandbox, method: &str, body: Value) -> Result<Reply, Stop> {
    sandbox
        .rpc(c, &format!("filesystem.Filesystem/{method}"), &body)
        .await
}

async fn place(c: &Context) -> Result<(Sandbox, String), Stop> {
    Ok((c.shared().await?, format!("/home/user/{}", c.unique())))
}

async fn gone(c: &Context, sandbox: &Sandbox, path: &str) -> Verdict {
    call(c, sandbox, "Stat", json!({ "path": path }))
        .await?
        .status(404)
        .map(|_| ())
}

async fn make_dir(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let body = call(&c, &sandbox, "MakeDir", json!({ "path": path }))
        .await?
        .status(200)?
        .json()?;
    equal("entry.path", &body["entry"]["path"], &json!(path))?;
    let entry = stat(&c, &sandbox, &path).await?;
    equal("permissions", &entry["permissions"], &json!("drwxr-xr-x"))?;
    equal("owner", &entry["owner"], &json!("user"))
}

async fn parents(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let deep = format!("{path}/a/b");
    call(&c, &sandbox, "MakeDir", json!({ "path": deep }))
        .await?
        .status(200)?;
    let entry = stat(&c, &sandbox, &format!("{path}/a")).await?;
    equal(
        "type of the parent",
        &entry["type"],
        &json!("FILE_TYPE_DIRECTORY"),
    )
}

async fn existing(c: Context) -> Verdict {
    let reply = call(
        &c,
        &c.shared().await?,
        "MakeDir",
        json!({ "path": "/home/user" }),
    )
    .await?;
    reply.connect_error("already_exists", 409).map(|_| ())
}

async fn over_file(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    sandbox.put(&c, &path, b"x").await?;
    let reply = call(&c, &sandbox, "MakeDir", json!({ "path": path })).await?;
    reply.connect_error("invalid_argument", 400).map(|_| ())
}

async fn carried(c: &Context, to: &str) -> Verdict {
    let (sandbox, path) = place(c).await?;
    let destination = format!("{path}{to}");
    sandbox.put(c, &path, b"carried").await?;
    let body = json!({ "source": path, "destination": destination });
    let body = call(c, &sandbox, "Move", body).await?.status(200)?.json()?;
    equal("entry.path", &body["entry"]["path"], &json!(destination))?;
    equal(
        "content",
        sandbox.read_file(c, &destination).await?.text().as_str(),
        "carried",
    )?;
    gone(c, &sandbox, &path).await
}

async fn moved(c: Context) -> Verdict {
    carried(&c, "-moved").await
}

async fn move_parents(c: Context) -> Verdict {
    carried(&c, "-new/a/b").await
}

async fn move_missing(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let body = json!({ "source": path, "destination": format!("{path}-moved") });
    call(&c, &sandbox, "Move", body)
        .await?
        .connect_error("not_found", 404)
        .map(|_| ())
}

async fn remove(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    sandbox.put(&c, &path, b"x").await?;
    call(&c, &sandbox, "Remove", json!({ "path": path }))
        .await?
        .status(200)?;
    gone(&c, &sandbox, &path).await
}

async fn recursive(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    sandbox.put(&c, &format!("{path}/a/file"), b"x").await?;
    call(&c, &sandbox, "Remove", json!({ "path": path }))
        .await?
        .status(200)?;
    gone(&c, &sandbox, &path).await
}

async fn remove_missing(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    call(&c, &sandbox, "Remove", json!({ "path": path }))
        .await?
        .status(200)
        .map(|_| ())
}

async fn move_over(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let destination = format!("{path}-there");
    sandbox.put(&c, &path, b"newer").await?;
    sandbox.put(&c, &destination, b"older").await?;
    let body = json!({ "source": path, "destination": destination });
    call(&c, &sandbox, "Move", body).await?.status(200)?;
    let file = sandbox.read_file(&c, &destination).await?;
    equal("content", file.status(200)?.text().as_str(), "newer")?;
    gone(&c, &sandbox, &path).await
}
