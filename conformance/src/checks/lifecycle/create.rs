//! Creates: answers and defaults.

use http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::wire::reply::{Reply, text, time};

pub const CHECKS: &[Check] = &[
    Check::new(
        "lifecycle/create-v2",
        &["create-v2-missing", "create-v2-200"],
        "POST /v2/sandboxes answers 201.",
        |c| Box::pin(v2(c)),
    ),
    Check::new(
        "lifecycle/create-v1",
        &["create-v1-missing"],
        "POST /sandboxes answers 201.",
        |c| Box::pin(v1(c)),
    ),
    Check::new(
        "lifecycle/create-members",
        &["create-omits-client-id"],
        "A create answers with the members that clients read.",
        |c| Box::pin(members(c)),
    ),
    Check::new(
        "lifecycle/routable-id",
        &["id-in-capitals"],
        "A sandbox's id can be part of a host name.",
        |c| Box::pin(routable_id(c)),
    ),
    Check::new(
        "lifecycle/agent-version",
        &["version-with-v", "version-too-old"],
        "The agent's version is one that SDKs accept.",
        |c| Box::pin(agent_version(c)),
    ),
    Check::new(
        "lifecycle/create-v2-token",
        &["v2-without-token"],
        "A sandbox of the second version has an access token.",
        |c| Box::pin(v2_token(c)),
    ),
    Check::new(
        "lifecycle/tokens-differ",
        &["tokens-equal"],
        "Two sandboxes have different ids and tokens.",
        |c| Box::pin(tokens_differ(c)),
    ),
    Check::new(
        "lifecycle/default-timeout-v2",
        &["v2-default-15"],
        "Without timeout a sandbox lives 300 s (second version).",
        |c| Box::pin(default_v2(c)),
    ),
    Check::new(
        "lifecycle/default-timeout-v1",
        &["v1-default-300"],
        "Without timeout a sandbox lives 15 s (first version).",
        |c| Box::pin(default_v1(c)),
    ),
    Check::new(
        "lifecycle/create-timeout",
        &["timeout-ignored"],
        "A create's timeout is the sandbox's life.",
        |c| Box::pin(timeout(c)),
    ),
    Check::new(
        "lifecycle/create-template-only",
        &["needs-metadata"],
        "A create with nothing but the template is taken.",
        |c| Box::pin(template_only(c)),
    ),
    Check::new(
        "lifecycle/create-empty-maps",
        &["empty-env-vars-refused"],
        "Empty metadata and envVars are taken.",
        |c| Box::pin(empty_maps(c)),
    ),
    Check::new(
        "lifecycle/create-null-members",
        &["null-mcp-refused"],
        "Optional members may be null.",
        |c| Box::pin(null_members(c)),
    ),
    Check::new(
        "lifecycle/create-chunked",
        &["chunked-refused"],
        "A body in chunks is taken.",
        |c| Box::pin(chunked(c)),
    ),
    Check::new(
        "lifecycle/create-default-tag",
        &["tag-refused"],
        "A template may be named with the tag `default`.",
        |c| Box::pin(default_tag(c)),
    ),
    Check::new(
        "lifecycle/create-domain",
        &["domain-as-url"],
        "`domain` is null or a bare domain.",
        |c| Box::pin(domain(c)),
    ),
    Check::new(
        "lifecycle/create-v1-secure",
        &["v1-secure-without-token"],
        "`secure: true` gives a token in the first version.",
        |c| Box::pin(v1_secure(c)),
    ),
    Check::new(
        "lifecycle/idempotent-create",
        &["idempotency-ignored"],
        "A create repeated with its Idempotency-Key gives the same sandbox.",
        |c| Box::pin(idempotent(c)),
    ),
    Check::new(
        "lifecycle/idempotency-mismatch",
        &["idempotency-mismatch-accepted"],
        "An Idempotency-Key with another body is refused.",
        |c| Box::pin(mismatch(c)),
    ),
];

async fn made(c: &Context, extra: Value) -> Result<Value, Stop> {
    c.create(extra).await?.status(201)?.json()
}

async fn v2(c: Context) -> Verdict {
    made(&c, json!({})).await.map(|_| ())
}

async fn created_v1(c: &Context, extra: Value) -> Result<Reply, Stop> {
    c.post("/sandboxes", &c.body(extra)).await
}

async fn v1(c: Context) -> Verdict {
    created_v1(&c, json!({ "timeout": 60 }))
        .await?
        .status(201)?
        .json()
        .map(|_| ())
}

async fn members(c: Context) -> Verdict {
    let body = made(&c, json!({})).await?;
    for name in ["templateID", "sandboxID", "clientID", "envdVersion"] {
        text(&body, name)?;
    }
    Ok(())
}

async fn routable_id(c: Context) -> Verdict {
    let id = text(&made(&c, json!({})).await?, "sandboxID")?;
    let routable = id
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    // "65535-" goes before it in the label.
    expect(
        routable && !id.is_empty() && id.len() <= 57,
        "1 to 57 lower-case letters and digits",
        id,
    )
}

async fn agent_version(c: Context) -> Verdict {
    let version = text(&made(&c, json!({})).await?, "envdVersion")?;
    let parts: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    let parts = parts.filter(|parts| parts.len() == 3);
    let parts = parts.ok_or_else(|| fail("three numbers with dots between", version.clone()))?;
    expect(
        parts >= vec![0, 1, 0],
        "at least 0.1.0, below which SDKs kill the sandbox",
        version,
    )
}

async fn v2_token(c: Context) -> Verdict {
    let token = text(&made(&c, json!({})).await?, "envdAccessToken")?;
    expect(!token.is_empty(), "a token", "an empty one")
}

async fn tokens_differ(c: Context) -> Verdict {
    let (a, b) = (made(&c, json!({})).await?, made(&c, json!({})).await?);
    expect(a["sandboxID"] != b["sandboxID"], "two ids", "one twice")?;
    expect(
        a["envdAccessToken"] != b["envdAccessToken"],
        "two tokens",
        "one twice",
    )
}

/// `endAt` less `startedAt`, in seconds.
async fn life(c: &Context, created: &Value) -> Result<i64, Stop> {
    let id = text(created, "sandboxID")?;
    let detail = c
        .get(&format!("/sandboxes/{id}"))
        .await?
        .status(200)?
        .json()?;
    Ok(time(&detail, "endAt")?.as_second() - time(&detail, "startedAt")?.as_second())
}

fn about(actual: i64, wanted: i64) -> Verdict {
    let near = (actual - wanted).abs() <= 10;
    expect(
        near,
        format!("endAt {wanted} s (±10) after startedAt"),
        format!("{actual} s"),
    )
}

async fn default_v2(c: Context) -> Verdict {
    let body = made(&c, json!({})).await?;
    about(life(&c, &body).await?, 300)
}

async fn default_v1(c: Context) -> Verdict {
    let body = created_v1(&c, json!({})).await?.status(201)?.json()?;
    about(life(&c, &body).await?, 15)
}

async fn timeout(c: Context) -> Verdict {
    let body = made(&c, json!({ "timeout": 77 })).await?;
    about(life(&c, &body).await?, 77)
}

/// A body as it stands, without the label of the run.
async fn exactly(c: &Context, body: &Value) -> Verdict {
    c.post("/v2/sandboxes", body).await?.status(201).map(|_| ())
}

async fn template_only(c: Context) -> Verdict {
    exactly(&c, &json!({ "templateID": c.target().template })).await
}

async fn empty_maps(c: Context) -> Verdict {
    exactly(
        &c,
        &json!({ "templateID": c.target().template, "metadata": {}, "envVars": {} }),
    )
    .await
}

async fn null_members(c: Context) -> Verdict {
    exactly(
        &c,
        &json!({ "templateID": c.target().template, "mcp": null, "network": null }),
    )
    .await
}

async fn chunked(c: Context) -> Verdict {
    let request = c
        .api(Method::POST, "/v2/sandboxes")
        .json(&c.body(json!({})))
        .chunked();
    c.send(request).await?.status(201).map(|_| ())
}

async fn default_tag(c: Context) -> Verdict {
    if c.target().template.contains(':') {
        return Err(Stop::Untestable(
            "the run's template has a tag already".to_owned(),
        ));
    }
    made(
        &c,
        json!({ "templateID": format!("{}:default", c.target().template) }),
    )
    .await
    .map(|_| ())
}

async fn domain(c: Context) -> Verdict {
    let body = made(&c, json!({})).await?;
    match &body["domain"] {
        Value::Null => Ok(()),
        Value::String(domain) if !domain.is_empty() && !domain.contains(['/', ' ']) => Ok(()),
        other => Err(fail(
            "null, absent, or a domain without scheme and path",
            other.to_string(),
        )),
    }
}

async fn v1_secure(c: Context) -> Verdict {
    let body = created_v1(&c, json!({ "secure": true, "timeout": 60 }))
        .await?
        .status(201)?
        .json()?;
    text(&body, "envdAccessToken").map(|_| ())
}

async fn with_key(c: &Context, key: &str, extra: Value) -> Result<Reply, Stop> {
    let request = c
        .api(Method::POST, "/v2/sandboxes")
        .header("idempotency-key", key)
        .json(&c.body(extra));
    c.send(request).await
}

async fn idempotent(c: Context) -> Verdict {
    let key = format!("conformance-{}", c.unique());
    let first = with_key(&c, &key, json!({})).await?.status(201)?.json()?;
    let second = with_key(&c, &key, json!({})).await?.status(201)?.json()?;
    equal(
        "the sandbox of the repeated create",
        &second["sandboxID"],
        &first["sandboxID"],
    )
}

async fn mismatch(c: Context) -> Verdict {
    let key = format!("conformance-{}", c.unique());
    with_key(&c, &key, json!({ "timeout": 60 }))
        .await?
        .status(201)?;
    let reply = with_key(&c, &key, json!({ "timeout": 61 })).await?;
    reply.one_of(&[400, 409, 422])?;
    equal(
        "error_code",
        &reply.json()?["error_code"],
        &json!("idempotency_request_mismatch"),
    )
}
