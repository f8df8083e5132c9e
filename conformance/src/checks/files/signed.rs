//! Signed URLs.

use http::Method;

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::{percent, signature};
use crate::wire::reply::Reply;

pub const CHECKS: &[Check] = &[
    Check::new(
        "files/signed-read",
        &["signatures-refused"],
        "A signature for reading opens the file without token.",
        |c| Box::pin(read(c)),
    ),
    Check::new(
        "files/signed-write",
        &["signature-for-any-operation"],
        "A signature for writing is one for writing, one for reading is not.",
        |c| Box::pin(write(c)),
    ),
    Check::new(
        "files/signed-wrong",
        &["signature-unchecked"],
        "A wrong signature is a 401: invalid signature.",
        |c| Box::pin(wrong(c)),
    ),
    Check::new(
        "files/signed-other-path",
        &["signature-for-any-path"],
        "A signature holds for its path only.",
        |c| Box::pin(other_path(c)),
    ),
    Check::new(
        "files/signed-missing",
        &["missing-signature-words"],
        "Without signature the 401 says so.",
        |c| Box::pin(missing(c)),
    ),
    Check::new(
        "files/signed-expired",
        &["expired-signature-accepted", "expired-signature-words"],
        "A signature that is over is a 401 that says so.",
        |c| Box::pin(expired(c)),
    ),
    Check::new(
        "files/signed-expiry",
        &["signature-without-expiry"],
        "The expiry is part of what is signed.",
        |c| Box::pin(expiry(c)),
    ),
];

/// A sandbox with its token, and a file in it.
pub async fn made(c: &Context) -> Result<(Sandbox, String, String), Stop> {
    let sandbox = c.shared().await?;
    let token = sandbox
        .token
        .clone()
        .ok_or_else(|| Stop::Untestable("the sandbox has no token".to_owned()))?;
    let path = format!("/home/user/{}.txt", c.unique());
    sandbox.put(c, &path, b"signed").await?;
    Ok((sandbox, token, path))
}

async fn get(c: &Context, sandbox: &Sandbox, path: &str, more: &str) -> Result<Reply, Stop> {
    let query = format!("/files?path={}&username=user{more}", percent(path));
    c.send(
        sandbox
            .agent(c, Method::GET, &query)
            .without("x-access-token"),
    )
    .await
}

fn signed(path: &str, operation: &str, token: &str, expires: Option<i64>) -> String {
    let mut query = format!(
        "&signature={}",
        percent(&signature(path, operation, "user", token, expires))
    );
    if let Some(expires) = expires {
        query.push_str(&format!("&signature_expiration={expires}"));
    }
    query
}

fn says(reply: &Reply, words: &str) -> Verdict {
    let message = reply.refusal(401)?["message"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    equal("message", message.as_str(), words)
}

async fn read(c: Context) -> Verdict {
    let (sandbox, token, path) = made(&c).await?;
    let reply = get(&c, &sandbox, &path, &signed(&path, "read", &token, None)).await?;
    equal("body", reply.status(200)?.text().as_str(), "signed")
}

async fn write(c: Context) -> Verdict {
    let (sandbox, token, path) = made(&c).await?;
    for (operation, status) in [("write", 200), ("read", 401)] {
        let query = format!(
            "/files?path={}&username=user{}",
            percent(&path),
            signed(&path, operation, &token, None)
        );
        let request = sandbox
            .agent(&c, Method::POST, &query)
            .without("x-access-token")
            .header("content-type", "application/octet-stream")
            .body("written");
        c.send(request).await?.status(status)?;
    }
    Ok(())
}

async fn wrong(c: Context) -> Verdict {
    let (sandbox, _, path) = made(&c).await?;
    let reply = get(
        &c,
        &sandbox,
        &path,
        &signed(&path, "read", "another-token", None),
    )
    .await?;
    says(&reply, "invalid signature")
}

async fn other_path(c: Context) -> Verdict {
    let (sandbox, token, path) = made(&c).await?;
    let reply = get(
        &c,
        &sandbox,
        &path,
        &signed("/etc/passwd", "read", &token, None),
    )
    .await?;
    says(&reply, "invalid signature")
}

async fn missing(c: Context) -> Verdict {
    let (sandbox, _, path) = made(&c).await?;
    says(
        &get(&c, &sandbox, &path, "").await?,
        "missing signature query parameter",
    )
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

async fn expired(c: Context) -> Verdict {
    let (sandbox, token, path) = made(&c).await?;
    let reply = get(
        &c,
        &sandbox,
        &path,
        &signed(&path, "read", &token, Some(now() - 3_600)),
    )
    .await?;
    says(&reply, "signature is already expired")
}

async fn expiry(c: Context) -> Verdict {
    let (sandbox, token, path) = made(&c).await?;
    let later = now() + 3_600;
    let reply = get(
        &c,
        &sandbox,
        &path,
        &signed(&path, "read", &token, Some(later)),
    )
    .await?;
    reply.status(200)?;
    // The same signature with an hour more.
    let moved = signed(&path, "read", &token, Some(later))
        .replace(&later.to_string(), &(later + 3_600).to_string());
    let reply = get(&c, &sandbox, &path, &moved).await?;
    expect(
        reply.status.as_u16() == 401,
        "401 for a changed expiry",
        reply.brief(),
    )
}
