//! Making, seeing and deleting volumes.

use serde_json::json;

use super::{create, name, volume};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::{Context, unique};
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "volumes/there-or-refused",
        &["volumes-missing"],
        "Volumes are there, or refused with 403 or 501.",
        |c| Box::pin(there(c)),
    ),
    Check::new(
        "volumes/create",
        &["volume-create-200", "volume-without-token"],
        "A create answers 201 with volumeID, name and token.",
        |c| Box::pin(created(c)),
    ),
    Check::new(
        "volumes/duplicate",
        &["volume-name-twice"],
        "A name used already is a 400.",
        |c| Box::pin(duplicate(c)),
    ),
    Check::new(
        "volumes/bad-name",
        &["volume-any-name"],
        "A name of other characters is a 400.",
        |c| Box::pin(bad_name(c)),
    ),
    Check::new(
        "volumes/list",
        &["volumes-unlisted"],
        "GET /volumes lists volumes.",
        |c| Box::pin(list(c)),
    ),
    Check::new(
        "volumes/detail",
        &["volume-without-token"],
        "GET /volumes/{id} answers the volume.",
        |c| Box::pin(detail(c)),
    ),
    Check::new(
        "volumes/delete",
        &["volume-delete-ignored"],
        "A delete answers 204, and the volume is gone.",
        |c| Box::pin(delete(c)),
    ),
    Check::new(
        "volumes/unknown",
        &["volume-missing-400"],
        "An unknown volume is a 404.",
        |c| Box::pin(unknown(c)),
    ),
];

async fn there(c: Context) -> Verdict {
    let reply = create(&c, &name()).await?;
    match reply.one_of(&[201, 403, 501])?.status.as_u16() {
        201 => Ok(()),
        code => reply.refusal(code).map(|_| ()),
    }
}

async fn created(c: Context) -> Verdict {
    let name = name();
    let reply = create(&c, &name).await?;
    let body = reply.status(201)?.json()?;
    for member in ["volumeID", "token"] {
        let value = text(&body, member)?;
        expect(!value.is_empty(), format!("a {member}"), "an empty one")?;
    }
    equal("name", &body["name"], &json!(name))
}

async fn duplicate(c: Context) -> Verdict {
    let first = volume(&c).await?;
    create(&c, &first.name).await?.refusal(400)?;
    Ok(())
}

async fn bad_name(c: Context) -> Verdict {
    for name in ["with space", "a/b", "ümlaut", ""] {
        create(&c, name).await?.refusal(400)?;
    }
    Ok(())
}

/// Whether a volume is in the list.
async fn listed(c: &Context, id: &str) -> Result<bool, Stop> {
    let items = c.get("/volumes").await?.status(200)?.array()?;
    Ok(items.iter().any(|item| item["volumeID"] == id))
}

async fn list(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let items = c.get("/volumes").await?.status(200)?.array()?;
    let own = items
        .iter()
        .find(|item| item["volumeID"] == volume.id.as_str());
    match own {
        Some(own) => equal("name", &own["name"], &json!(volume.name)),
        None => expect(
            false,
            format!("volume {}", volume.id),
            json!(items).to_string(),
        ),
    }
}

async fn detail(c: Context) -> Verdict {
    let blocked = |stop: Stop| stop.blocks("a volume could not be created");
    let name = name();
    let reply = create(&c, &name).await.map_err(blocked)?;
    let id = text(&reply.json().map_err(blocked)?, "volumeID").map_err(blocked)?;
    let body = c
        .get(&format!("/volumes/{id}"))
        .await?
        .status(200)?
        .json()?;
    equal("volumeID", &body["volumeID"], &json!(id))?;
    equal("name", &body["name"], &json!(name))?;
    text(&body, "token").map(|_| ())
}

async fn delete(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let path = format!("/volumes/{}", volume.id);
    c.delete(&path).await?.status(204)?;
    expect(
        !listed(&c, &volume.id).await?,
        "the volume gone from the list",
        "it is there",
    )
}

async fn unknown(c: Context) -> Verdict {
    // Where there are no volumes at all, a 404 says nothing.
    volume(&c).await?;
    let path = format!("/volumes/none{}", unique());
    c.get(&path).await?.refusal(404)?;
    c.delete(&path).await?.refusal(404)?;
    Ok(())
}
