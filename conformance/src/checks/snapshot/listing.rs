//! Listing and deleting snapshots.

use serde_json::{Value, json};

use super::{from, path, snapshot};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "snapshot/listed",
        &["snapshot-not-listed"],
        "GET /snapshots lists it.",
        |c| Box::pin(listed(c)),
    ),
    Check::new(
        "snapshot/by-sandbox",
        &["snapshot-filter-ignored"],
        "GET /snapshots filters by sandbox.",
        |c| Box::pin(by_sandbox(c)),
    ),
    Check::new(
        "snapshot/paged",
        &["snapshot-limit-ignored", "snapshot-page-repeats"],
        "GET /snapshots pages with X-Next-Token.",
        |c| Box::pin(paged(c)),
    ),
    Check::new(
        "snapshot/delete",
        &["snapshot-delete-ignored"],
        "A deleted snapshot is not listed, and no sandbox is made from it.",
        |c| Box::pin(deleted(c)),
    ),
    Check::new(
        "snapshot/delete-twice",
        &["snapshot-delete-missing-204"],
        "Deleting a snapshot again is a 404.",
        |c| Box::pin(delete_twice(c)),
    ),
    Check::new(
        "snapshot/delete-used",
        &["snapshot-delete-used-204"],
        "Deleting a snapshot that sandboxes use is a 400.",
        |c| Box::pin(delete_used(c)),
    ),
];

async fn page(c: &Context, query: &str) -> Result<(Reply, Vec<String>), Stop> {
    let reply = c.get(&format!("/snapshots?{query}")).await?;
    let items = reply.status(200)?.array()?;
    let ids = items.iter().filter_map(|item| item["snapshotID"].as_str());
    let ids = ids.map(str::to_owned).collect();
    Ok((reply, ids))
}

async fn listed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let id = snapshot(&c, &sandbox, &json!({})).await?;
    let reply = c.get("/snapshots?limit=100").await?;
    let items = reply.status(200)?.array()?;
    let item = items.iter().find(|item| item["snapshotID"] == id.as_str());
    let item = item.cloned().unwrap_or(Value::Null);
    expect(
        item["names"].is_array(),
        format!("an item with snapshotID {id} and names"),
        format!("{item} among {} items", items.len()),
    )
}

async fn by_sandbox(c: Context) -> Verdict {
    let mut made = Vec::new();
    for _ in 0..2 {
        let sandbox = c.fresh(json!({})).await?;
        let id = snapshot(&c, &sandbox, &json!({})).await?;
        made.push((sandbox.id, id));
    }
    for (sandbox, id) in made {
        let (_, ids) = page(&c, &format!("sandboxID={sandbox}")).await?;
        equal("snapshots of the sandbox", &ids, &vec![id])?;
    }
    Ok(())
}

async fn paged(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(snapshot(&c, &sandbox, &json!({})).await?);
    }
    let (first, mut ids) = page(&c, &format!("sandboxID={}&limit=1", sandbox.id)).await?;
    equal("items of the first page", &ids.len(), &1)?;
    let token = crate::wire::encode::percent(first.header("x-next-token"));
    expect(!token.is_empty(), "X-Next-Token", "none")?;
    let query = format!("sandboxID={}&limit=1&nextToken={token}", sandbox.id);
    let (_, second) = page(&c, &query).await?;
    ids.extend(second);
    ids.sort();
    made.sort();
    equal("snapshots of both pages", &ids, &made)
}

async fn deleted(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let id = snapshot(&c, &sandbox, &json!({})).await?;
    c.delete(&path(&id)).await?.status(204)?;
    let (_, ids) = page(&c, &format!("sandboxID={}", sandbox.id)).await?;
    equal("snapshots of the sandbox", &ids, &Vec::new())?;
    let body = json!({ "templateID": id, "timeout": 60 });
    c.create(body).await?.status(404).map(|_| ())
}

async fn delete_twice(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let id = snapshot(&c, &sandbox, &json!({})).await?;
    c.delete(&path(&id)).await?.one_of(&[200, 204])?;
    c.delete(&path(&id)).await?.refusal(404).map(|_| ())
}

async fn delete_used(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    let id = snapshot(&c, &sandbox, &json!({})).await?;
    let clone = from(&c, &id).await?;
    c.delete(&path(&id)).await?.refusal(400)?;
    c.done(&clone).await;
    c.delete(&path(&id)).await?.status(204).map(|_| ())
}
