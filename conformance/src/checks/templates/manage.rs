//! Names, lists, tags, and the end of templates.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use super::steps::{of, shared};
use super::{Built, reserved};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::{Context, unique};
use crate::wire::encode::percent;
use crate::wire::reply::{Reply, text};

pub const CHECKS: &[Check] = &[
    Check::new(
        "templates/alias",
        &["alias-unknown-200", "alias-known-404"],
        "The name of a template answers 200, an unknown one 404.",
        |c| Box::pin(alias(c)),
    ),
    Check::new(
        "templates/alias-of-new",
        &["alias-of-another"],
        "The name of a new template answers with its templateID.",
        |c| Box::pin(alias_of_new(c)),
    ),
    Check::new(
        "templates/list",
        &["template-list-without-names"],
        "GET /templates answers an array with all members.",
        |c| Box::pin(list(c)),
    ),
    Check::new(
        "templates/list-pages",
        &["template-limit-ignored", "template-pages-end"],
        "GET /v2/templates pages.",
        |c| Box::pin(pages(c)),
    ),
    Check::new(
        "templates/delete",
        &["template-delete-200"],
        "DELETE /templates/{id} answers 204.",
        |c| Box::pin(delete(c)),
    ),
    Check::new(
        "templates/delete-unknown",
        &["template-delete-missing-204"],
        "Deleting an unknown template is a 404.",
        |c| Box::pin(delete_unknown(c)),
    ),
    Check::new(
        "templates/delete-used",
        &["used-template-deleted"],
        "Deleting a template in use is a 400.",
        |c| Box::pin(delete_used(c)),
    )
    .slow(),
    Check::new(
        "templates/publish",
        &["publish-ignored"],
        "PATCH /v2/templates/{id} sets public.",
        |c| Box::pin(publish(c)),
    )
    .slow(),
    Check::new(
        "templates/tag",
        &["tag-200"],
        "POST /templates/tags answers 201 with tags and buildID.",
        |c| Box::pin(tag(c)),
    )
    .slow(),
    Check::new(
        "templates/untag",
        &["untag-ignored"],
        "DELETE /templates/tags answers 204, and the tag is gone.",
        |c| Box::pin(untag(c)),
    )
    .slow(),
    Check::new(
        "templates/untag-default",
        &["default-tag-removed"],
        "The tag default cannot be removed.",
        |c| Box::pin(untag_default(c)),
    )
    .slow(),
    Check::new(
        "templates/tags",
        &["tags-as-text", "tags-not-kept"],
        "GET /templates/{id}/tags lists tags.",
        |c| Box::pin(tags(c)),
    )
    .slow(),
    Check::new(
        "templates/encoded-name",
        &["encoded-slash-splits"],
        "Names with an encoded slash are one segment.",
        |c| Box::pin(encoded(c)),
    ),
];

async fn alias_of(c: &Context, name: &str) -> Result<Reply, Stop> {
    c.get(&format!("/templates/aliases/{}", percent(name)))
        .await
}

async fn alias(c: Context) -> Verdict {
    let name = c.target().template.clone();
    let name = name.split(':').next().unwrap_or("");
    let body = alias_of(&c, name).await?.status(200)?.json()?;
    text(&body, "templateID")?;
    expect(
        body["public"].is_boolean(),
        "member `public` as a boolean",
        body.to_string(),
    )?;
    alias_of(&c, &format!("none-{}", unique()))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn alias_of_new(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    let body = alias_of(&c, &built.name).await?.status(200)?.json()?;
    equal("templateID", &body["templateID"], &json!(built.id))
}

async fn list(c: Context) -> Verdict {
    let blocked = |stop: Stop| stop.blocks("there is no template to list");
    let mut items = c.get("/templates").await?.status(200)?.array()?;
    if items.is_empty() {
        shared(&c).await.map_err(blocked)?;
        items = c.get("/templates").await?.status(200)?.array()?;
    }
    expect(!items.is_empty(), "a template at least", "an empty list")?;
    for item in &items {
        for member in [
            "templateID",
            "buildID",
            "cpuCount",
            "memoryMB",
            "diskSizeMB",
            "public",
            "aliases",
            "names",
            "createdAt",
            "updatedAt",
            "createdBy",
            "lastSpawnedAt",
            "spawnCount",
            "buildCount",
            "envdVersion",
            "buildStatus",
        ] {
            expect(
                item.get(member).is_some(),
                format!("member `{member}`"),
                item.to_string(),
            )?;
        }
    }
    Ok(())
}

fn ids(items: &[Value]) -> BTreeSet<String> {
    let ids = items.iter().filter_map(|item| item["templateID"].as_str());
    ids.map(str::to_owned).collect()
}

async fn pages(c: Context) -> Verdict {
    let mut all = ids(&c.get("/v2/templates").await?.status(200)?.array()?);
    if all.len() < 2 {
        // Two of the check's own; a server that lists them only when they are built is helped by the shared one.
        reserved(&c).await?;
        reserved(&c).await?;
        all = ids(&c.get("/v2/templates").await?.status(200)?.array()?);
    }
    if all.len() < 2 {
        shared(&c).await?;
        all = ids(&c.get("/v2/templates").await?.status(200)?.array()?);
    }
    if all.len() < 2 {
        return Err(Stop::Untestable("there are not two templates".to_owned()));
    }
    let mut seen = BTreeSet::new();
    let mut token = String::new();
    // Others may make templates meanwhile; a few pages more than there were are enough.
    for _ in 0..all.len() + 20 {
        let query = if token.is_empty() {
            String::new()
        } else {
            format!("&nextToken={}", percent(&token))
        };
        let reply = c.get(&format!("/v2/templates?limit=1{query}")).await?;
        let items = reply.status(200)?.array()?;
        expect(
            items.len() <= 1,
            "one template a page",
            items.len().to_string(),
        )?;
        seen.extend(ids(&items));
        reply.header("x-next-token").clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    // Templates of other checks come and go.
    let lost: Vec<&String> = all.difference(&seen).collect();
    let still = ids(&c.get("/v2/templates").await?.status(200)?.array()?);
    let lost: Vec<&&String> = lost.iter().filter(|id| still.contains(**id)).collect();
    expect(
        lost.is_empty() && seen.len() > 1,
        "every template on one of the pages",
        format!("{lost:?} on none"),
    )
}

async fn delete(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    c.delete(&built.delete_path()).await?.status(204)?;
    Ok(())
}

async fn delete_unknown(c: Context) -> Verdict {
    c.delete(&format!("/templates/t{}", unique()))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn delete_used(c: Context) -> Verdict {
    let built = super::ready(&c, json!({})).await?;
    of(&c, &built).await?;
    c.delete(&built.delete_path()).await?.refusal(400)?;
    Ok(())
}

async fn is_public(c: &Context, built: &Built) -> Result<Value, Stop> {
    let body = alias_of(c, &built.name).await?.status(200)?.json()?;
    Ok(body["public"].clone())
}

async fn publish(c: Context) -> Verdict {
    let built = super::ready(&c, json!({})).await?;
    for public in [true, false] {
        let path = format!("/v2/templates/{}", built.id);
        let request = c
            .api(Method::PATCH, &path)
            .json(&json!({ "public": public }));
        let body = c.send(request).await?.status(200)?.json()?;
        expect(
            body["names"].is_array(),
            "member `names` as an array",
            body.to_string(),
        )?;
        equal("public", &is_public(&c, &built).await?, &json!(public))?;
    }
    Ok(())
}

async fn tagged(c: &Context, built: &Built, tag: &str) -> Result<Reply, Stop> {
    let body = json!({ "target": format!("{}:default", built.name), "tags": [tag] });
    c.post("/templates/tags", &body).await
}

async fn untagged(c: &Context, built: &Built, tag: &str) -> Result<Reply, Stop> {
    let body = json!({ "name": built.name, "tags": [tag] });
    c.send(c.api(Method::DELETE, "/templates/tags").json(&body))
        .await
}

/// The tags of a template and the builds that they are at.
async fn listed(c: &Context, built: &Built) -> Result<Vec<(String, String)>, Stop> {
    let path = format!("/templates/{}/tags", built.id);
    let items = c.get(&path).await?.status(200)?.array()?;
    items
        .iter()
        .map(|item| {
            crate::wire::reply::time(item, "createdAt")?;
            Ok((text(item, "tag")?, text(item, "buildID")?))
        })
        .collect()
}

async fn tag(c: Context) -> Verdict {
    let built = shared(&c).await?;
    let name = unique();
    let body = tagged(&c, &built, &name).await?.status(201)?.json()?;
    equal("tags", &body["tags"], &json!([name]))?;
    equal("buildID", &body["buildID"], &json!(built.build))
}

/// A template with a tag besides the default one.
async fn with_tag(c: &Context) -> Result<(Built, String), Stop> {
    let built = shared(c).await?;
    let name = unique();
    let blocked = |stop: Stop| stop.blocks("a tag could not be set");
    tagged(c, &built, &name)
        .await?
        .one_of(&[200, 201])
        .map_err(blocked)?;
    Ok((built, name))
}

async fn untag(c: Context) -> Verdict {
    let (built, name) = with_tag(&c).await?;
    untagged(&c, &built, &name).await?.status(204)?;
    let left = listed(&c, &built).await?;
    expect(
        !left.iter().any(|(tag, _)| *tag == name),
        format!("no tag {name}"),
        format!("{left:?}"),
    )
}

async fn untag_default(c: Context) -> Verdict {
    let built = shared(&c).await?;
    untagged(&c, &built, "default").await?.refusal(400)?;
    Ok(())
}

async fn tags(c: Context) -> Verdict {
    let (built, name) = with_tag(&c).await?;
    let there = listed(&c, &built).await?;
    for wanted in ["default", &name] {
        let pair = (wanted.to_owned(), built.build.clone());
        expect(
            there.contains(&pair),
            format!("tag {wanted} at build {}", built.build),
            format!("{there:?}"),
        )?;
    }
    Ok(())
}

async fn encoded(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    for name in &built.names {
        let body = alias_of(&c, name).await?.status(200)?.json()?;
        equal(
            &format!("templateID of {}", percent(name)),
            &body["templateID"],
            &json!(built.id),
        )?;
    }
    let unknown = format!("/templates/none%2F{}", unique());
    c.delete(&unknown).await?.refusal(404).map(|_| ())
}
