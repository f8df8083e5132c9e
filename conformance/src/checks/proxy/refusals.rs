//! The proxy's own answers.

use http::Method;
use serde_json::json;

use super::serve;
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::{AGENT, Sandbox};
use crate::wire::reply::Reply;
use crate::wire::request::Request;

pub const CHECKS: &[Check] = &[
    Check::new(
        "proxy/closed-port",
        &[
            "closed-port-504",
            "closed-port-words",
            "closed-port-omits-port",
        ],
        "A closed port is a 502 that says so.",
        |c| Box::pin(closed(c)),
    ),
    Check::new(
        "proxy/unknown-sandbox",
        &["dead-sandbox-404", "dead-sandbox-words"],
        "An unknown sandbox is a 502 that says so.",
        |c| Box::pin(unknown(c)),
    ),
    Check::new(
        "proxy/killed-sandbox",
        &["killed-still-there"],
        "A killed sandbox is a 502 that says so.",
        |c| Box::pin(killed(c)),
    ),
    Check::new(
        "proxy/refusal-type",
        &["proxy-errors-as-text"],
        "Programs get refusals in JSON.",
        |c| Box::pin(kind(c)),
    ),
    Check::new(
        "proxy/refusal-page",
        &["no-page-for-browsers"],
        "Browsers get refusals as a page.",
        |c| Box::pin(page(c)),
    ),
    Check::new(
        "proxy/private-traffic",
        &["traffic-open", "any-traffic-token"],
        "Private traffic needs the right token.",
        |c| Box::pin(private(c)),
    ),
    Check::new(
        "proxy/private-words",
        &["traffic-refusal-words"],
        "The refusal of private traffic names the header.",
        |c| Box::pin(private_words(c)),
    ),
    Check::new(
        "proxy/private-token",
        &["traffic-token-missing"],
        "A create with private traffic gives a traffic token.",
        |c| Box::pin(private_token(c)),
    ),
];

async fn closed(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let reply = c.send(sandbox.port(&c, Method::GET, 9_999, "/")).await?;
    let body = reply.status(502)?.json()?;
    equal(
        "message",
        &body["message"],
        &json!("The sandbox is running but port is not open"),
    )?;
    equal("code", &body["code"], &json!(502))?;
    equal("port", &body["port"], &json!(9_999))?;
    equal("sandboxId", &body["sandboxId"], &json!(sandbox.id))
}

fn not_found(reply: &Reply) -> Verdict {
    let body = reply.status(502)?.json()?;
    equal(
        "message",
        &body["message"],
        &json!("The sandbox was not found"),
    )?;
    equal("code", &body["code"], &json!(502))?;
    expect(
        body["sandboxId"].is_string(),
        "`sandboxId`",
        body.to_string(),
    )
}

async fn nobody(c: &Context) -> Result<Request, Stop> {
    let mut sandbox = c.shared().await?;
    sandbox.id = format!("i{}", c.unique());
    Ok(sandbox.port(c, Method::GET, AGENT, "/health"))
}

async fn unknown(c: Context) -> Verdict {
    not_found(&c.send(nobody(&c).await?).await?)
}

async fn killed(c: Context) -> Verdict {
    let sandbox = c.fresh(json!({})).await?;
    c.delete(&format!("/sandboxes/{}", sandbox.id))
        .await?
        .one_of(&[200, 204])?;
    not_found(
        &c.send(sandbox.port(&c, Method::GET, AGENT, "/health"))
            .await?,
    )
}

async fn kind(c: Context) -> Verdict {
    let reply = c.send(nobody(&c).await?).await?;
    let kind = reply.header("content-type");
    expect(
        kind.starts_with("application/json"),
        "content type application/json",
        kind,
    )
}

async fn page(c: Context) -> Verdict {
    let request = nobody(&c)
        .await?
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        )
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let reply = c.send(request).await?;
    let kind = reply.status(502)?.header("content-type");
    expect(
        kind.starts_with("text/html"),
        "content type text/html",
        kind,
    )
}

/// A sandbox with private traffic.
async fn secret(c: &Context) -> Result<Sandbox, Stop> {
    c.fresh(json!({ "network": { "allowPublicTraffic": false } }))
        .await
}

async fn private(c: Context) -> Verdict {
    let sandbox = secret(&c).await?;
    let token = sandbox.traffic_token.clone().unwrap_or_default();
    serve(&c, &sandbox, 8_080, "0.0.0.0").await?;
    let ask = |token: Option<&str>| {
        let request = sandbox.port(&c, Method::GET, 8_080, "/");
        match token {
            Some(token) => request.header("e2b-traffic-access-token", token),
            None => request,
        }
    };
    c.send(ask(None)).await?.status(403)?;
    c.send(ask(Some("not-the-token"))).await?.status(403)?;
    c.send(ask(Some(&token))).await?.status(200)?;
    c.done(&sandbox).await;
    Ok(())
}

async fn private_words(c: Context) -> Verdict {
    let sandbox = secret(&c).await?;
    let body = c
        .send(sandbox.port(&c, Method::GET, 8_080, "/"))
        .await?
        .status(403)?
        .json()?;
    c.done(&sandbox).await;
    let message = body["message"].as_str().unwrap_or("").to_lowercase();
    expect(
        message.contains("e2b-traffic-access-token"),
        "a message that names e2b-traffic-access-token",
        message,
    )
}

async fn private_token(c: Context) -> Verdict {
    let sandbox = secret(&c).await?;
    let given = sandbox
        .traffic_token
        .as_ref()
        .is_some_and(|token| !token.is_empty());
    c.done(&sandbox).await;
    expect(given, "trafficAccessToken", "none")
}
