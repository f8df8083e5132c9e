//! Stat: what an entry says.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::reply::{number, text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "filesystem/stat-file",
        &[
            "size-zero",
            "mode-with-type",
            "permissions-missing",
            "modified-as-number",
        ],
        "A file's entry has name, type, path, size, mode, permissions and time.",
        |c| Box::pin(file(c)),
    ),
    Check::new(
        "filesystem/stat-dir",
        &["dir-as-file"],
        "A folder's entry says so.",
        |c| Box::pin(dir(c)),
    ),
    Check::new(
        "filesystem/stat-owner",
        &["owner-as-number"],
        "Owner and group are names.",
        |c| Box::pin(owner(c)),
    ),
    Check::new(
        "filesystem/stat-missing",
        &["stat-missing-internal"],
        "A missing path is not_found.",
        |c| Box::pin(missing(c)),
    ),
    Check::new(
        "filesystem/stat-link",
        &[
            "stat-of-link-itself",
            "no-symlink-target",
            "link-letter-missing",
        ],
        "A link's entry is of its target, with the target's path.",
        |c| Box::pin(link(c)),
    ),
    Check::new(
        "filesystem/stat-is-symlink",
        &["no-is-symlink"],
        "A link's entry has `isSymlink`.",
        |c| Box::pin(is_symlink(c)),
    ),
    Check::new(
        "filesystem/relative-path",
        &["relative-to-root"],
        "A relative path is below the user's home.",
        |c| Box::pin(relative(c)),
    ),
    Check::new(
        "filesystem/tilde-path",
        &["tilde-literal"],
        "`~` is the user's home.",
        |c| Box::pin(tilde(c)),
    ),
    Check::new(
        "filesystem/user-path",
        &["basic-user-ignored"],
        "Paths are those of the user that is chosen.",
        |c| Box::pin(user_path(c)),
    ),
    Check::new(
        "filesystem/stat-owner-number",
        &["owner-number-empty"],
        "Owners without a name are numbers.",
        |c| Box::pin(owner_number(c)),
    ),
];

/// An entry by its path.
pub async fn stat(c: &Context, sandbox: &Sandbox, path: &str) -> Result<Value, Stop> {
    let reply = sandbox
        .rpc(c, "filesystem.Filesystem/Stat", &json!({ "path": path }))
        .await?;
    Ok(reply.status(200)?.json()?["entry"].clone())
}

/// A file of the check's own.
async fn made(c: &Context) -> Result<(Sandbox, String), Stop> {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}.txt", c.unique());
    sandbox.put(c, &path, b"twelve bytes").await?;
    Ok((sandbox, path))
}

async fn file(c: Context) -> Verdict {
    let (sandbox, path) = made(&c).await?;
    let entry = stat(&c, &sandbox, &path).await?;
    equal("name", &entry["name"].as_str(), &path.rsplit('/').next())?;
    equal("type", &entry["type"], &json!("FILE_TYPE_FILE"))?;
    equal("path", &entry["path"], &json!(path))?;
    equal("size", &number(&entry, "size")?, &12)?;
    equal("mode", &number(&entry, "mode")?, &0o644)?;
    equal(
        "permissions",
        text(&entry, "permissions")?.as_str(),
        "-rw-r--r--",
    )?;
    time(&entry, "modifiedTime").map(|_| ())
}

async fn dir(c: Context) -> Verdict {
    let entry = stat(&c, &c.shared().await?, "/home/user").await?;
    equal("type", &entry["type"], &json!("FILE_TYPE_DIRECTORY"))?;
    let permissions = text(&entry, "permissions")?;
    expect(
        permissions.starts_with('d'),
        "permissions that begin with d",
        permissions,
    )
}

async fn owner(c: Context) -> Verdict {
    let (sandbox, path) = made(&c).await?;
    let entry = stat(&c, &sandbox, &path).await?;
    equal("owner", &entry["owner"], &json!("user"))?;
    equal("group", &entry["group"], &json!("user"))
}

async fn missing(c: Context) -> Verdict {
    let body = json!({ "path": format!("/no/such/{}", c.unique()) });
    let reply = c
        .shared()
        .await?
        .rpc(&c, "filesystem.Filesystem/Stat", &body)
        .await?;
    reply.connect_error("not_found", 404).map(|_| ())
}

async fn linked(c: &Context) -> Result<(Value, String), Stop> {
    let (sandbox, path) = made(c).await?;
    let link = format!("/home/user/{}", c.unique());
    sandbox
        .run(c, &format!("ln -s {path} {link}"))
        .await
        .map_err(|stop| stop.blocks("no link was made"))?;
    Ok((stat(c, &sandbox, &link).await?, path))
}

async fn link(c: Context) -> Verdict {
    let (entry, path) = linked(&c).await?;
    equal("type", &entry["type"], &json!("FILE_TYPE_FILE"))?;
    equal("symlinkTarget", &entry["symlinkTarget"], &json!(path))?;
    let permissions = text(&entry, "permissions")?;
    expect(
        permissions.starts_with('L'),
        "permissions that begin with L",
        permissions,
    )
}

async fn is_symlink(c: Context) -> Verdict {
    let (entry, _) = linked(&c).await?;
    equal("isSymlink", &entry["isSymlink"], &json!(true))
}

async fn relative(c: Context) -> Verdict {
    let (sandbox, path) = made(&c).await?;
    let name = path
        .rsplit('/')
        .next()
        .ok_or_else(|| fail("a name", path.clone()))?;
    equal(
        "path",
        &stat(&c, &sandbox, name).await?["path"],
        &json!(path),
    )
}

async fn tilde(c: Context) -> Verdict {
    let (sandbox, path) = made(&c).await?;
    let short = path.replace("/home/user", "~");
    equal(
        "path",
        &stat(&c, &sandbox, &short).await?["path"],
        &json!(path),
    )
}

async fn user_path(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .call(&c, "filesystem.Filesystem/Stat", &json!({ "path": "." }))
        .header("authorization", crate::wire::encode::user("root"));
    let body = c.send(request).await?.status(200)?.json()?;
    equal("path", &body["entry"]["path"], &json!("/root"))
}

async fn owner_number(c: Context) -> Verdict {
    let (sandbox, path) = made(&c).await?;
    let command = format!("chown 4321:4321 {path}");
    let done = sandbox
        .run_with(&c, &command, json!({}), Some("root"))
        .await?;
    if done.exit_code() != 0 {
        return Err(Stop::Untestable("root cannot change an owner".to_owned()));
    }
    let entry = stat(&c, &sandbox, &path).await?;
    equal("owner", &entry["owner"], &json!("4321"))?;
    equal("group", &entry["group"], &json!("4321"))
}
