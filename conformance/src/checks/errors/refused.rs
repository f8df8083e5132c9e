//! Creates that must be refused.

use http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect};
use crate::context::Context;
use crate::wire::encode::metadata_filter;

pub const CHECKS: &[Check] = &[
    Check::new(
        "errors/pause-memory-resume",
        &["pause-memory-resume-accepted"],
        "autoPauseMemory false with autoResume is a 400.",
        |c| Box::pin(pause_memory_resume(c)),
    ),
    Check::new(
        "errors/malformed-json",
        &["malformed-json-500"],
        "A body that is no JSON is a 400.",
        |c| Box::pin(malformed(c)),
    ),
    Check::new(
        "errors/array-body",
        &["array-body-500"],
        "A body that is an array is a 400.",
        |c| Box::pin(array(c)),
    ),
    Check::new(
        "errors/template-missing",
        &["template-optional"],
        "A create without template is a 400.",
        |c| Box::pin(no_template(c)),
    ),
    Check::new(
        "errors/template-unknown",
        &["unknown-template-accepted", "unknown-template-500"],
        "An unknown template is a 404.",
        |c| Box::pin(unknown_template(c)),
    ),
    Check::new(
        "errors/template-reference",
        &["bad-reference-500"],
        "A template that is no reference is a 400.",
        |c| Box::pin(bad_reference(c)),
    ),
    Check::new(
        "errors/timeout-range",
        &["zero-timeout-accepted", "negative-timeout-accepted"],
        "A create's timeout must be positive.",
        |c| Box::pin(timeout_range(c)),
    ),
    Check::new(
        "errors/timeout-huge",
        &["huge-timeout-accepted"],
        "A timeout of years is a 400.",
        |c| Box::pin(timeout_huge(c)),
    ),
    Check::new(
        "errors/timeout-type",
        &["text-timeout-accepted"],
        "A timeout that is text is a 400.",
        |c| Box::pin(timeout_type(c)),
    ),
    Check::new(
        "errors/metadata-type",
        &["metadata-number-accepted"],
        "Metadata that is no text is a 400.",
        |c| Box::pin(metadata_type(c)),
    ),
    Check::new(
        "errors/envs-type",
        &["env-number-accepted"],
        "Environment variables that are no text are a 400.",
        |c| Box::pin(envs_type(c)),
    ),
    Check::new(
        "errors/pause-memory-alone",
        &["pause-memory-alone-accepted"],
        "`autoPauseMemory: false` without `autoPause` is a 400.",
        |c| Box::pin(pause_memory(c)),
    ),
    Check::new(
        "errors/volume-unknown",
        &["volume-mount-ignored"],
        "A mount of an unknown volume is refused, not ignored.",
        |c| Box::pin(volume(c)),
    ),
    Check::new(
        "errors/deny-out-name",
        &["deny-name-accepted"],
        "A name in denyOut is a 400.",
        |c| Box::pin(deny_name(c)),
    ),
    Check::new(
        "errors/allow-out-name",
        &["allow-name-accepted"],
        "A name in allowOut without denyOut of all is a 400.",
        |c| Box::pin(allow_name(c)),
    ),
    Check::new(
        "errors/mask-host",
        &["mask-unicode-accepted"],
        "A maskRequestHost that is not ASCII is a 400.",
        |c| Box::pin(mask(c)),
    ),
    Check::new(
        "errors/private-unsecured",
        &["private-unsecured-accepted"],
        "Private traffic without a secured sandbox is a 400.",
        |c| Box::pin(private(c)),
    ),
    Check::new(
        "errors/refused-create",
        &["refused-create-leaks"],
        "A refused create makes no sandbox.",
        |c| Box::pin(no_leak(c)),
    ),
    Check::new(
        "errors/iam-count",
        &["iam-any-count"],
        "More than five identity tokens are a 400.",
        |c| Box::pin(iam_count(c)),
    ),
    Check::new(
        "errors/iam-type",
        &["iam-any-type"],
        "A tokenType other than JWT-SVID is a 400.",
        |c| Box::pin(iam_type(c)),
    ),
];

async fn raw(c: &Context, body: &'static str) -> Verdict {
    let request = c
        .api(Method::POST, "/v2/sandboxes")
        .with("content-type", "application/json")
        .body(body);
    c.send(request).await?.refusal(400).map(|_| ())
}

async fn malformed(c: Context) -> Verdict {
    raw(&c, "{\"templateID\": \"base\"").await?;
    raw(&c, "templateID=base").await
}

async fn array(c: Context) -> Verdict {
    raw(&c, "[]").await
}

async fn no_template(c: Context) -> Verdict {
    let reply = c.post("/v2/sandboxes", &json!({ "metadata": {} })).await?;
    reply.one_of(&[400, 422]).map(|_| ())
}

async fn unknown_template(c: Context) -> Verdict {
    c.create(json!({ "templateID": format!("no-such-{}", c.unique()) }))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn bad_reference(c: Context) -> Verdict {
    c.create(json!({ "templateID": "not a//reference" }))
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn refused(c: &Context, extra: Value) -> Verdict {
    c.create(extra).await?.refusal(400).map(|_| ())
}

async fn timeout_range(c: Context) -> Verdict {
    refused(&c, json!({ "timeout": 0 })).await?;
    refused(&c, json!({ "timeout": -1 })).await
}

async fn timeout_huge(c: Context) -> Verdict {
    refused(&c, json!({ "timeout": 2_000_000_000 })).await
}

async fn timeout_type(c: Context) -> Verdict {
    refused(&c, json!({ "timeout": "60" })).await
}

async fn metadata_type(c: Context) -> Verdict {
    refused(&c, json!({ "metadata": { "number": 7 } })).await
}

async fn envs_type(c: Context) -> Verdict {
    refused(&c, json!({ "envVars": { "NUMBER": 7 } })).await
}

async fn pause_memory(c: Context) -> Verdict {
    refused(&c, json!({ "autoPauseMemory": false })).await
}

async fn volume(c: Context) -> Verdict {
    let mount = json!([{ "name": format!("no-such-{}", c.unique()), "path": "/mnt/volume" }]);
    let reply = c.create(json!({ "volumeMounts": mount })).await?;
    expect(reply.status.is_client_error(), "a 4xx", reply.brief())
}

async fn deny_name(c: Context) -> Verdict {
    refused(&c, json!({ "network": { "denyOut": ["example.com"] } })).await
}

async fn allow_name(c: Context) -> Verdict {
    refused(&c, json!({ "network": { "allowOut": ["example.com"] } })).await
}

async fn mask(c: Context) -> Verdict {
    refused(
        &c,
        json!({ "network": { "maskRequestHost": "bücher.example" } }),
    )
    .await
}

async fn private(c: Context) -> Verdict {
    let body = c.body(
        json!({ "secure": false, "timeout": 60, "network": { "allowPublicTraffic": false } }),
    );
    c.post("/sandboxes", &body).await?.refusal(400).map(|_| ())
}

async fn no_leak(c: Context) -> Verdict {
    let mark = c.unique();
    let reply = c
        .create(json!({ "envVars": { "NUMBER": 7 }, "metadata": { "mark": mark } }))
        .await?;
    if !reply.status.is_client_error() {
        return Err(Stop::Untestable("no create was refused".to_owned()));
    }
    let filter = metadata_filter(&[("mark", &mark)]);
    let items = c
        .get(&format!("/v2/sandboxes?metadata={filter}"))
        .await?
        .status(200)?
        .array()?;
    expect(
        items.is_empty(),
        "no sandbox",
        format!("{} sandboxes", items.len()),
    )
}

async fn pause_memory_resume(c: Context) -> Verdict {
    let body =
        json!({ "autoPause": true, "autoPauseMemory": false, "autoResume": { "enabled": true } });
    c.create(body).await?.refusal(400).map(|_| ())
}

async fn iam_count(c: Context) -> Verdict {
    let tokens: serde_json::Map<String, serde_json::Value> = (0..6)
        .map(|number| {
            let token = json!({ "audience": ["a"], "tokenType": "JWT-SVID" });
            (format!("token{number}"), token)
        })
        .collect();
    refused(&c, json!({ "iam": { "tokens": tokens } })).await
}

async fn iam_type(c: Context) -> Verdict {
    let token = json!({ "audience": ["a"], "tokenType": "X509" });
    refused(&c, json!({ "iam": { "tokens": { "one": token } } })).await
}
