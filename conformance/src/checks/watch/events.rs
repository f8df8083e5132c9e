//! What is told: one check per kind of event, and what of a tree is watched.

use serde_json::json;

use super::{folder, is, make_dir, of, shown, touch, until, watch};
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "watch/create",
        &["watch-no-create", "watch-absolute-names"],
        "A new file is a CREATE with its name below the root.",
        |c| Box::pin(create(c)),
    ),
    Check::new(
        "watch/write",
        &["watch-no-write"],
        "A write is a WRITE.",
        |c| Box::pin(write(c)),
    ),
    Check::new(
        "watch/remove",
        &["watch-no-remove"],
        "A removal is a REMOVE.",
        |c| Box::pin(remove(c)),
    ),
    Check::new(
        "watch/rename",
        &["watch-rename-as-remove"],
        "A renaming is a RENAME.",
        |c| Box::pin(rename(c)),
    ),
    Check::new(
        "watch/chmod",
        &["watch-no-chmod"],
        "A change of mode is a CHMOD.",
        |c| Box::pin(chmod(c)),
    ),
    Check::new(
        "watch/recursive",
        &["watch-recursive-flat"],
        "A recursive watch sees files in folders below.",
        |c| Box::pin(recursive(c)),
    ),
    Check::new(
        "watch/recursive-new-folder",
        &["watch-new-folders-missed"],
        "A recursive watch sees files in folders that are made later.",
        |c| Box::pin(new_folder(c)),
    ),
    Check::new(
        "watch/not-recursive",
        &["watch-always-recursive"],
        "A watch that is not recursive sees only its own folder.",
        |c| Box::pin(not_recursive(c)),
    ),
    Check::new(
        "watch/entry",
        &["watch-without-entry"],
        "With includeEntry the events of a file that is there have its entry.",
        |c| Box::pin(with_entry(c)),
    ),
    Check::new(
        "watch/upload",
        &["upload-without-chmod"],
        "A new file through /files is exactly CREATE, CHMOD, WRITE.",
        |c| Box::pin(upload(c)),
    ),
];

async fn create(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    touch(&c, &sandbox, &format!("{path}/new")).await?;
    until(&c, &mut stream, "CREATE", "new").await.map(|_| ())
}

async fn write(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/old");
    touch(&c, &sandbox, &file).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    sandbox.run(&c, &format!("echo more >> {file}")).await?;
    until(&c, &mut stream, "WRITE", "old").await.map(|_| ())
}

async fn remove(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/old");
    touch(&c, &sandbox, &file).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    sandbox.run(&c, &format!("rm -f {file}")).await?;
    until(&c, &mut stream, "REMOVE", "old").await.map(|_| ())
}

async fn rename(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/old");
    touch(&c, &sandbox, &file).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    let body = json!({ "source": file, "destination": format!("{path}/new") });
    sandbox
        .rpc(&c, "filesystem.Filesystem/Move", &body)
        .await?
        .status(200)?;
    until(&c, &mut stream, "RENAME", "old").await.map(|_| ())
}

async fn chmod(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/old");
    touch(&c, &sandbox, &file).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    sandbox.run(&c, &format!("chmod 600 {file}")).await?;
    until(&c, &mut stream, "CHMOD", "old").await.map(|_| ())
}

async fn recursive(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    make_dir(&c, &sandbox, &format!("{path}/sub")).await?;
    let body = of(&path, json!({ "recursive": true }));
    let mut stream = watch(&c, &sandbox, &body).await?;
    touch(&c, &sandbox, &format!("{path}/sub/new")).await?;
    until(&c, &mut stream, "CREATE", "sub/new")
        .await
        .map(|_| ())
}

async fn new_folder(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let body = of(&path, json!({ "recursive": true }));
    let mut stream = watch(&c, &sandbox, &body).await?;
    make_dir(&c, &sandbox, &format!("{path}/late")).await?;
    until(&c, &mut stream, "CREATE", "late").await?;
    touch(&c, &sandbox, &format!("{path}/late/new")).await?;
    until(&c, &mut stream, "WRITE", "late/new")
        .await
        .map(|_| ())
}

async fn not_recursive(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    make_dir(&c, &sandbox, &format!("{path}/sub")).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    touch(&c, &sandbox, &format!("{path}/sub/new")).await?;
    // What comes later tells that the earlier one was left out, without waiting for nothing.
    touch(&c, &sandbox, &format!("{path}/mark")).await?;
    let seen = until(&c, &mut stream, "CREATE", "mark").await?;
    let below = |event: &serde_json::Value| {
        let name = event["name"].as_str().unwrap_or("");
        name.contains('/')
    };
    expect(
        !seen.iter().any(below),
        "no event of the folder below",
        shown(&seen),
    )
}

async fn with_entry(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let file = format!("{path}/new");
    let body = of(&path, json!({ "includeEntry": true }));
    let mut stream = watch(&c, &sandbox, &body).await?;
    sandbox.put(&c, &file, b"text").await?;
    let seen = until(&c, &mut stream, "WRITE", "new").await?;
    for kind in ["CREATE", "CHMOD", "WRITE"] {
        let event = seen.iter().find(|event| is(event, kind, "new"));
        let path = event.map(|event| event["entry"]["path"].clone());
        equal(
            &format!("entry.path of {kind}"),
            &path.unwrap_or_default(),
            &json!(file),
        )?;
    }
    Ok(())
}

async fn upload(c: Context) -> Verdict {
    let (sandbox, path) = folder(&c).await?;
    let mut stream = watch(&c, &sandbox, &of(&path, json!({}))).await?;
    sandbox.put(&c, &format!("{path}/new"), b"text").await?;
    sandbox.put(&c, &format!("{path}/mark"), b"text").await?;
    let mut seen = until(&c, &mut stream, "CREATE", "mark").await?;
    seen.pop();
    equal(
        "events of the new file",
        shown(&seen).as_str(),
        "[CREATE \"new\", CHMOD \"new\", WRITE \"new\"]",
    )
}
