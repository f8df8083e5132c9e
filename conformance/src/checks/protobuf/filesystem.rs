//! The filesystem service, in protobuf.

use serde_json::json;

use super::rpc;
use crate::check::{Check, Verdict, equal, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "filesystem/proto-stat",
        &["proto-size-as-text", "proto-time-lost"],
        "In protobuf Stat gives the same entry as in JSON.",
        |c| Box::pin(stat(c)),
    ),
    Check::new(
        "filesystem/proto-list",
        &["proto-last-entry-only"],
        "In protobuf ListDir gives all entries.",
        |c| Box::pin(list(c)),
    ),
    Check::new(
        "filesystem/proto-change",
        &["proto-as-json"],
        "MakeDir, Move and Remove work in protobuf.",
        |c| Box::pin(change(c)),
    ),
];

async fn stat(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/proto-{}", c.unique());
    sandbox.put(&c, &path, b"12345").await?;
    let body = json!({ "path": path });
    let in_json = sandbox
        .rpc(&c, "filesystem.Filesystem/Stat", &body)
        .await?
        .json()?;
    let binary = rpc(&c, &sandbox, "filesystem.Filesystem/Stat", &body).await?;
    let (entry, known) = (&binary["entry"], &in_json["entry"]);
    for name in [
        "name",
        "type",
        "path",
        "mode",
        "permissions",
        "owner",
        "group",
    ] {
        equal(name, &entry[name], &known[name])?;
    }
    equal("size", &entry["size"], &json!("5"))?;
    let moment = |value: &serde_json::Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
    };
    let time = moment(&entry["modifiedTime"]);
    expect(time.is_some(), "a modified_time", entry.to_string())?;
    equal("modified_time", &time, &moment(&known["modifiedTime"]))
}

async fn list(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/proto-{}", c.unique());
    for name in ["a", "b", "c"] {
        sandbox.put(&c, &format!("{path}/{name}"), b"x").await?;
    }
    let body = json!({ "path": path, "depth": 1 });
    let found = rpc(&c, &sandbox, "filesystem.Filesystem/ListDir", &body).await?;
    let names: Vec<&str> = found["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    equal("names", &names, &vec!["a", "b", "c"])
}

async fn change(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/proto-{}", c.unique());
    let made = rpc(
        &c,
        &sandbox,
        "filesystem.Filesystem/MakeDir",
        &json!({ "path": path }),
    )
    .await?;
    equal(
        "type",
        &made["entry"]["type"],
        &json!("FILE_TYPE_DIRECTORY"),
    )?;
    let to = format!("{path}-moved");
    let body = json!({ "source": path, "destination": to });
    let moved = rpc(&c, &sandbox, "filesystem.Filesystem/Move", &body).await?;
    equal("path", &moved["entry"]["path"], &json!(to))?;
    rpc(
        &c,
        &sandbox,
        "filesystem.Filesystem/Remove",
        &json!({ "path": to }),
    )
    .await?;
    let gone = sandbox
        .rpc(&c, "filesystem.Filesystem/Stat", &json!({ "path": to }))
        .await?;
    gone.status(404).map(|_| ())
}
