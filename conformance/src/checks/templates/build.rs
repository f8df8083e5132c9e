//! The build's own calls.

use serde_json::json;

use super::context::{link, packed};
use super::{build, ended, name, reserve, reserved, status, trigger};
use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::{Context, unique};
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "templates/reserve",
        &["template-reserve-200"],
        "POST /v3/templates answers 202 with templateID and buildID.",
        |c| Box::pin(reservation(c)),
    ),
    Check::new(
        "templates/default-tag",
        &["template-tag-latest"],
        "Without tags a build has the tag default.",
        |c| Box::pin(default_tag(c)),
    ),
    Check::new(
        "templates/file-link",
        &["file-link-200", "file-link-without-url"],
        "A file link answers 201 with present, and url when not present.",
        |c| Box::pin(file_link(c)),
    ),
    Check::new(
        "templates/file-hash",
        &["any-file-hash"],
        "A file hash that is not 64 hex digits is a 400.",
        |c| Box::pin(file_hash(c)),
    ),
    Check::new(
        "templates/trigger",
        &["build-trigger-200"],
        "A trigger answers 202.",
        |c| Box::pin(triggered(c)),
    )
    .slow(),
    Check::new(
        "templates/trigger-twice",
        &["build-triggered-twice"],
        "A second trigger of a build is a 400.",
        |c| Box::pin(twice(c)),
    )
    .slow(),
    Check::new(
        "templates/status",
        &["build-status-done"],
        "A build's status is waiting, building, ready or error.",
        |c| Box::pin(status_words(c)),
    )
    .slow(),
    Check::new(
        "templates/log-entries",
        &["logs-offset-ignored"],
        "A status has logEntries from logsOffset on.",
        |c| Box::pin(log_entries(c)),
    )
    .slow(),
    Check::new(
        "templates/logs-member",
        &["status-without-logs"],
        "A status has the member logs as an array.",
        |c| Box::pin(logs_member(c)),
    ),
    Check::new(
        "templates/failure-reason",
        &["build-reason-missing"],
        "A failed build has a reason with message and step.",
        |c| Box::pin(reason(c)),
    )
    .slow(),
    Check::new(
        "templates/unknown-build",
        &["unknown-build-ready"],
        "The status of an unknown build is a 400 or 404.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "templates/cpu-count",
        &["template-any-cpu-count"],
        "A cpuCount that is neither 1 nor even is a 400.",
        |c| {
            Box::pin(refused(
                c,
                &[json!({ "cpuCount": 3 }), json!({ "cpuCount": 0 })],
            ))
        },
    ),
    Check::new(
        "templates/memory",
        &["template-any-memory"],
        "A memoryMB below 128 or odd is a 400.",
        |c| {
            Box::pin(refused(
                c,
                &[json!({ "memoryMB": 64 }), json!({ "memoryMB": 513 })],
            ))
        },
    ),
    Check::new(
        "templates/name-length",
        &["template-name-unlimited"],
        "A name beyond 128 characters is a 400.",
        |c| Box::pin(name_length(c)),
    ),
];

async fn reservation(c: Context) -> Verdict {
    let reply = reserve(&c, &name(), json!({})).await?;
    let body = reply.status(202)?.json()?;
    text(&body, "templateID")?;
    text(&body, "buildID")?;
    for member in ["names", "tags", "aliases"] {
        expect(
            body[member].is_array(),
            format!("member `{member}` as an array"),
            body.to_string(),
        )?;
    }
    expect(
        body["public"].is_boolean(),
        "member `public` as a boolean",
        body.to_string(),
    )
}

async fn default_tag(c: Context) -> Verdict {
    let reply = reserve(&c, &name(), json!({})).await?;
    let blocked = |stop: Stop| stop.blocks("a template could not be reserved");
    let body = reply.one_of(&[200, 202]).map_err(blocked)?.json()?;
    equal("tags", &body["tags"], &json!(["default"]))
}

async fn file_link(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    let content = unique();
    let (_, hash) = packed(&[("new.txt", 0o644, content.as_bytes())])?;
    let body = link(&c, &built, &hash).await?.status(201)?.json()?;
    equal("present", &body["present"], &json!(false))?;
    let url = text(&body, "url")?;
    expect(
        url.starts_with("http://") || url.starts_with("https://"),
        "an address as `url`",
        url,
    )
}

async fn file_hash(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    for hash in ["abc", &"g".repeat(64), &"a".repeat(65)] {
        link(&c, &built, hash).await?.refusal(400)?;
    }
    Ok(())
}

async fn triggered(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    trigger(&c, &built, json!({})).await?.status(202)?;
    ended(&c, &built).await.map(|_| ())
}

async fn twice(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    let blocked = |stop: Stop| stop.blocks("a build could not be triggered");
    trigger(&c, &built, json!({}))
        .await?
        .status(202)
        .map_err(blocked)?;
    let second = trigger(&c, &built, json!({})).await?;
    ended(&c, &built).await?;
    second.refusal(400).map(|_| ())
}

async fn status_words(c: Context) -> Verdict {
    let (_, end) = build(&c, json!({})).await?;
    equal(
        "the status of a build without steps",
        &end["status"],
        &json!("ready"),
    )
}

async fn log_entries(c: Context) -> Verdict {
    let step = |word: &str| json!({ "type": "RUN", "args": [format!("echo {word}")] });
    let (built, _) = build(&c, json!({ "steps": [step("one"), step("two")] })).await?;
    let all = status(&c, &built, 0).await?;
    let all = all["logEntries"]
        .as_array()
        .cloned()
        .ok_or_else(|| fail("member `logEntries` as an array", all.to_string()))?;
    expect(
        all.len() >= 2,
        "two log entries at least",
        all.len().to_string(),
    )?;
    for entry in &all {
        for member in ["timestamp", "message", "level"] {
            text(entry, member)?;
        }
    }
    let rest = status(&c, &built, 1).await?;
    equal(
        "the first entry from logsOffset=1 on",
        &rest["logEntries"][0],
        &all[1],
    )
}

async fn logs_member(c: Context) -> Verdict {
    let built = reserved(&c).await?;
    let seen = status(&c, &built, 0).await?;
    expect(
        seen["logs"].is_array(),
        "member `logs` as an array",
        seen.to_string(),
    )
}

async fn reason(c: Context) -> Verdict {
    let steps = json!([
        { "type": "RUN", "args": ["true"] },
        { "type": "RUN", "args": ["exit 7"] },
    ]);
    let (_, end) = build(&c, json!({ "steps": steps })).await?;
    equal("status", &end["status"], &json!("error"))?;
    let message = text(&end["reason"], "message")?;
    expect(!message.is_empty(), "a message", "an empty one")?;
    equal("step", text(&end["reason"], "step")?.as_str(), "2")
}

async fn unknown(c: Context) -> Verdict {
    let mut built = reserved(&c).await?;
    built.build = "6b7f9c1e-0000-4000-8000-00000000abcd".to_owned();
    let path = built.build_path("/status");
    let reply = c.get(&path).await?;
    let code = reply.one_of(&[400, 404])?.status.as_u16();
    reply.refusal(code).map(|_| ())
}

fn refused(
    c: Context,
    bodies: &[serde_json::Value],
) -> impl Future<Output = Verdict> + Send + use<> {
    let bodies = bodies.to_vec();
    async move {
        for body in bodies {
            reserve(&c, &name(), body).await?.refusal(400)?;
        }
        Ok(())
    }
}

async fn name_length(c: Context) -> Verdict {
    let long = format!("e2b-conformance-{}", "x".repeat(128));
    reserve(&c, &long, json!({})).await?.refusal(400)?;
    Ok(())
}
