//! The shape of refusals.

use http::Method;

use crate::check::{Check, Verdict, expect};
use crate::context::Context;

pub const CHECKS: &[Check] = &[
    Check::new(
        "errors/code-is-status",
        &["error-code-as-string"],
        "`code` of an error body is the status, as a number.",
        |c| Box::pin(code(c)),
    ),
    Check::new(
        "errors/message",
        &["error-without-message"],
        "An error body has a `message`.",
        |c| Box::pin(message(c)),
    ),
    Check::new(
        "errors/json-type",
        &["errors-as-plain-type"],
        "An error is of type application/json.",
        |c| Box::pin(json_type(c)),
    ),
    Check::new(
        "errors/unknown-route",
        &["unknown-route-html"],
        "An unknown route is a 404 with the standard body.",
        |c| Box::pin(unknown_route(c)),
    ),
    Check::new(
        "errors/hostile-id",
        &["hostile-id-500"],
        "Whatever stands in the place of an id, the answer is a 4xx.",
        |c| Box::pin(hostile_id(c)),
    ),
    Check::new(
        "errors/cors",
        &["no-cors"],
        "Browsers may ask from any origin.",
        |c| Box::pin(cors(c)),
    ),
    Check::new(
        "errors/cors-headers",
        &["cors-exposes-nothing"],
        "Browsers may read X-Next-Token and X-Total-Running.",
        |c| Box::pin(cors_headers(c)),
    ),
];

fn missing(c: &Context) -> String {
    format!("/sandboxes/i{}", c.unique())
}

async fn code(c: Context) -> Verdict {
    let reply = c.get(&missing(&c)).await?;
    let body = reply.json()?;
    let same = body["code"].as_u64() == Some(u64::from(reply.status.as_u16()));
    expect(same, "`code` equal to the status", reply.brief())
}

async fn message(c: Context) -> Verdict {
    let reply = c.get(&missing(&c)).await?;
    let said = reply.json()?["message"]
        .as_str()
        .is_some_and(|message| !message.is_empty());
    expect(said, "a `message`", reply.brief())
}

async fn json_type(c: Context) -> Verdict {
    let reply = c.get(&missing(&c)).await?;
    let kind = reply.header("content-type");
    expect(
        kind.starts_with("application/json"),
        "content type application/json",
        kind,
    )
}

async fn unknown_route(c: Context) -> Verdict {
    c.get(&format!("/no/such/{}", c.unique()))
        .await?
        .refusal(404)
        .map(|_| ())
}

async fn hostile_id(c: Context) -> Verdict {
    let long = "a".repeat(2_000);
    for id in [
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "a%20b",
        "%F0%9F%92%A9",
        "%27%3B--",
        long.as_str(),
    ] {
        let reply = c.get(&format!("/sandboxes/{id}")).await?;
        let refused = reply.status.is_client_error();
        expect(
            refused,
            format!("a 4xx for the id {:.40}", id),
            reply.brief(),
        )?;
    }
    Ok(())
}

async fn cors(c: Context) -> Verdict {
    let request = c
        .api(Method::OPTIONS, "/v2/sandboxes")
        .without("x-api-key")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key,content-type");
    let reply = c.send(request).await?;
    reply.one_of(&[200, 204])?;
    let origin = reply.header("access-control-allow-origin");
    expect(
        ["*", "https://example.com"].contains(&origin),
        "access-control-allow-origin",
        format!("{origin:?}"),
    )?;
    let headers = reply.header("access-control-allow-headers").to_lowercase();
    expect(
        headers == "*" || headers.contains("x-api-key"),
        "x-api-key among the allowed headers",
        headers,
    )
}

async fn cors_headers(c: Context) -> Verdict {
    let request = c
        .api(Method::GET, "/v2/sandboxes")
        .header("origin", "https://example.com");
    let reply = c.send(request).await?;
    let exposed = reply.header("access-control-expose-headers").to_lowercase();
    let all = exposed.contains("x-next-token") && exposed.contains("x-total-running");
    expect(
        all || exposed == "*",
        "both headers in access-control-expose-headers",
        format!("{exposed:?}"),
    )
}
