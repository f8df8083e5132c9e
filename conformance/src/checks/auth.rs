//! Keys and tokens.

use http::Method;
use serde_json::json;

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::{AGENT, Sandbox};

pub const CHECKS: &[Check] = &[
    Check::new(
        "auth/no-key",
        &["open-without-key"],
        "Without X-API-KEY the API answers 401.",
        |c| Box::pin(no_key(c)),
    ),
    Check::new(
        "auth/wrong-key",
        &["any-key-accepted", "wrong-key-403"],
        "A wrong key is a 401.",
        |c| Box::pin(wrong_key(c)),
    ),
    Check::new(
        "auth/empty-key",
        &["empty-key-accepted"],
        "An empty key is a 401.",
        |c| Box::pin(empty_key(c)),
    ),
    Check::new(
        "auth/part-of-key",
        &["key-prefix-accepted"],
        "A part of a good key is a 401.",
        |c| Box::pin(part_of_key(c)),
    ),
    Check::new(
        "auth/refusal-body",
        &["refusal-of-key-as-text"],
        "The 401 has the standard error body.",
        |c| Box::pin(refusal_body(c)),
    ),
    Check::new(
        "auth/key-not-echoed",
        &["key-echoed"],
        "A refusal does not repeat the key.",
        |c| Box::pin(not_echoed(c)),
    ),
    Check::new(
        "auth/all-routes",
        &["timeout-route-open"],
        "Every route of sandboxes asks for the key.",
        |c| Box::pin(all_routes(c)),
    ),
    Check::new(
        "auth/open-health",
        &["health-needs-key", "health-503"],
        "GET /health needs no key.",
        |c| Box::pin(open_health(c)),
    ),
    Check::new(
        "auth/agent-no-token",
        &["agent-open"],
        "Without the sandbox's token its agent answers 401.",
        |c| Box::pin(agent_no_token(c)),
    ),
    Check::new(
        "auth/agent-wrong-token",
        &["agent-any-token"],
        "A wrong token is a 401.",
        |c| Box::pin(agent_wrong_token(c)),
    ),
    Check::new(
        "auth/agent-foreign-token",
        &["agent-foreign-token"],
        "Another sandbox's token is a 401.",
        |c| Box::pin(foreign_token(c)),
    ),
    Check::new(
        "auth/agent-refusal-body",
        &["agent-refusal-as-text"],
        "The agent's 401 has `code` and `message`.",
        |c| Box::pin(agent_refusal(c)),
    ),
    Check::new(
        "auth/agent-health",
        &["agent-health-needs-token", "agent-health-500"],
        "The agent's health needs no token and is 204.",
        |c| Box::pin(agent_health(c)),
    ),
    Check::new(
        "auth/agent-envs",
        &["envs-open"],
        "The environment is given only with the token.",
        |c| Box::pin(envs(c)),
    ),
    Check::new(
        "auth/agent-init",
        &["init-public"],
        "The agent's internal routes are not public.",
        |c| Box::pin(init(c)),
    ),
    Check::new(
        "auth/key-form",
        &["key-form-400"],
        "A wrong key of any form is a 401: it is looked up, not judged by its form.",
        |c| Box::pin(key_form(c)),
    ),
    Check::new(
        "auth/agent-init-encoded",
        &["init-encoded-public"],
        "Internal routes stay closed however their path is written.",
        |c| Box::pin(init_encoded(c)),
    ),
];

const LIST: &str = "/v2/sandboxes";

async fn no_key(c: Context) -> Verdict {
    c.send(c.api(Method::GET, LIST).without("x-api-key"))
        .await?
        .status(401)
        .map(|_| ())
}

async fn with_key(c: &Context, key: &str) -> Verdict {
    c.send(c.api(Method::GET, LIST).with("x-api-key", key))
        .await?
        .status(401)
        .map(|_| ())
}

async fn wrong_key(c: Context) -> Verdict {
    with_key(&c, "e2b_0000000000000000000000000000000000000000").await
}

async fn empty_key(c: Context) -> Verdict {
    with_key(&c, "").await
}

async fn part_of_key(c: Context) -> Verdict {
    let key = c.target().api_key.clone();
    let half: String = key.chars().take(key.chars().count() / 2).collect();
    if half.is_empty() {
        return Err(Stop::Untestable("the key has one character".to_owned()));
    }
    with_key(&c, &half).await
}

async fn refusal_body(c: Context) -> Verdict {
    c.send(c.api(Method::GET, LIST).without("x-api-key"))
        .await?
        .refusal(401)
        .map(|_| ())
}

async fn not_echoed(c: Context) -> Verdict {
    let key = format!("e2b_{}", c.unique());
    let reply = c
        .send(c.api(Method::GET, LIST).with("x-api-key", key.clone()))
        .await?;
    expect(
        !reply.text().contains(&key),
        "a refusal without the key",
        "the key in its body",
    )
}

async fn all_routes(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let id = &sandbox.id;
    let routes = [
        (Method::GET, "/sandboxes".to_owned()),
        (Method::GET, LIST.to_owned()),
        (Method::GET, format!("/sandboxes/{id}")),
        (Method::POST, "/sandboxes".to_owned()),
        (Method::POST, LIST.to_owned()),
        (Method::POST, format!("/sandboxes/{id}/timeout")),
        (Method::POST, format!("/sandboxes/{id}/refreshes")),
        (Method::POST, format!("/sandboxes/{id}/connect")),
        (Method::POST, format!("/v2/sandboxes/{id}/connect")),
        (Method::DELETE, format!("/sandboxes/i{}", c.unique())),
    ];
    for (method, path) in routes {
        let shown = format!("{method} {path}");
        let body = json!({ "templateID": c.target().template, "timeout": 3_600 });
        let mut request = c.api(method.clone(), &path).without("x-api-key");
        if method == Method::POST {
            request = request.json(&body);
        }
        let reply = c.send(request).await?;
        expect(
            reply.status.as_u16() == 401,
            format!("401 from {shown}"),
            reply.brief(),
        )?;
    }
    Ok(())
}

async fn open_health(c: Context) -> Verdict {
    let reply = c
        .send(c.api(Method::GET, "/health").without("x-api-key"))
        .await?;
    reply.one_of(&[200, 204]).map(|_| ())
}

async fn asked(
    c: &Context,
    sandbox: &Sandbox,
    token: Option<&str>,
) -> Result<crate::wire::reply::Reply, Stop> {
    let mut request = sandbox
        .call(c, "process.Process/List", &json!({}))
        .without("x-access-token");
    if let Some(token) = token {
        request = request.header("x-access-token", token);
    }
    c.send(request).await
}

async fn secured(c: &Context) -> Result<Sandbox, Stop> {
    let sandbox = c.shared().await?;
    if sandbox.token.is_none() {
        return Err(Stop::Untestable("the sandbox has no token".to_owned()));
    }
    Ok(sandbox)
}

async fn agent_no_token(c: Context) -> Verdict {
    asked(&c, &secured(&c).await?, None)
        .await?
        .status(401)
        .map(|_| ())
}

async fn agent_wrong_token(c: Context) -> Verdict {
    let sandbox = secured(&c).await?;
    asked(&c, &sandbox, Some("not-the-token-of-this-sandbox"))
        .await?
        .status(401)?;
    let right = sandbox.token.clone();
    asked(&c, &sandbox, right.as_deref())
        .await?
        .status(200)
        .map(|_| ())
}

async fn foreign_token(c: Context) -> Verdict {
    let sandbox = secured(&c).await?;
    let other = c.fresh(json!({})).await?;
    asked(&c, &sandbox, other.token.as_deref())
        .await?
        .status(401)
        .map(|_| ())
}

async fn agent_refusal(c: Context) -> Verdict {
    let reply = asked(&c, &secured(&c).await?, None).await?;
    let body = reply.status(401)?.json()?;
    equal("code", &body["code"], &json!(401))?;
    expect(body["message"].is_string(), "a message", body.to_string())
}

async fn agent_health(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    c.send(sandbox.port(&c, Method::GET, AGENT, "/health"))
        .await?
        .status(204)
        .map(|_| ())
}

async fn envs(c: Context) -> Verdict {
    let sandbox = secured(&c).await?;
    c.send(sandbox.agent(&c, Method::GET, "/envs"))
        .await?
        .status(200)?;
    c.send(sandbox.port(&c, Method::GET, AGENT, "/envs"))
        .await?
        .status(401)
        .map(|_| ())
}

async fn init(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .agent(&c, Method::POST, "/init")
        .json(&json!({ "envVars": {} }));
    c.send(request).await?.status(404)?;
    c.send(sandbox.agent(&c, Method::POST, "/freeze"))
        .await?
        .status(404)
        .map(|_| ())
}

async fn key_form(c: Context) -> Verdict {
    let long = "k".repeat(300);
    for key in ["anything-goes", "E2B_ABC", "sk_e2b_0011", "1", &long] {
        with_key(&c, key).await?;
    }
    Ok(())
}

async fn init_encoded(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    for path in ["//init", "/./init", "/%69nit", "/files/../init", "/init/"] {
        let request = sandbox
            .agent(&c, Method::POST, path)
            .json(&json!({ "envVars": {} }));
        let reply = c.send(request).await?;
        // A path that is no path at all may be refused as such.
        reply.one_of(&[400, 404]).map_err(|stop| match stop {
            Stop::Fail { expected, actual } => fail(format!("{expected} for {path}"), actual),
            other => other,
        })?;
    }
    Ok(())
}
