//! Downloads.

use std::io::Read as _;

use http::Method;
use serde_json::json;

use crate::check::{Check, Stop, Verdict, equal, expect, fail};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::percent;
use crate::wire::request::Request;

pub const CHECKS: &[Check] = &[
    Check::new(
        "files/read-missing",
        &["read-missing-200", "file-errors-as-text"],
        "Reading what is not there is a 404 with code and message.",
        |c| Box::pin(missing(c)),
    ),
    Check::new(
        "files/read-dir",
        &["read-dir-200"],
        "Reading a folder is a 400.",
        |c| Box::pin(dir(c)),
    ),
    Check::new(
        "files/read-empty",
        &["empty-file-404"],
        "An empty file is read as such.",
        |c| Box::pin(empty(c)),
    ),
    Check::new(
        "files/read-gzip",
        &["gzip-in-name-only"],
        "A download for clients that take gzip unpacks to the file.",
        |c| Box::pin(gzip(c)),
    ),
    Check::new(
        "files/read-range",
        &["range-ignored"],
        "A range gives that part: 206.",
        |c| Box::pin(range(c)),
    ),
    Check::new(
        "files/read-type",
        &["content-type-fixed"],
        "Content-Type goes by the file's extension.",
        |c| Box::pin(kind(c)),
    ),
    Check::new(
        "files/read-disposition",
        &["disposition-attachment"],
        "Content-Disposition is inline.",
        |c| Box::pin(disposition(c)),
    ),
    Check::new(
        "files/read-encoding",
        &["accept-encoding-ignored"],
        "An Accept-Encoding that cannot be met is a 406.",
        |c| Box::pin(encoding(c)),
    ),
    Check::new(
        "files/read-plus",
        &["plus-is-plus"],
        "`+` in the query is a space, as the JavaScript SDK writes it.",
        |c| Box::pin(plus(c)),
    ),
    Check::new(
        "files/unknown-user",
        &["files-unknown-user-200"],
        "An unknown username is a 401.",
        |c| Box::pin(unknown_user(c)),
    ),
    Check::new(
        "files/no-token",
        &["files-open"],
        "Without token and signature files are a 401.",
        |c| Box::pin(no_token(c)),
    ),
    Check::new(
        "files/wrong-token",
        &["files-any-token"],
        "A wrong token is a 401.",
        |c| Box::pin(wrong_token(c)),
    ),
    Check::new(
        "files/agent-metrics",
        &["agent-metrics-without-disk"],
        "The agent's metrics have all members.",
        |c| Box::pin(metrics(c)),
    ),
];

async fn made(c: &Context, name: &str, content: &[u8]) -> Result<(Sandbox, String), Stop> {
    let sandbox = c.shared().await?;
    let path = format!("/home/user/{}{name}", c.unique());
    sandbox.put(c, &path, content).await?;
    Ok((sandbox, path))
}

fn get(c: &Context, sandbox: &Sandbox, path: &str) -> Request {
    sandbox.agent(c, Method::GET, &format!("/files?path={}", percent(path)))
}

async fn missing(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let reply = sandbox
        .read_file(&c, &format!("/no/such/{}", c.unique()))
        .await?;
    reply.refusal(404).map(|_| ())
}

async fn dir(c: Context) -> Verdict {
    c.shared()
        .await?
        .read_file(&c, "/home/user")
        .await?
        .refusal(400)
        .map(|_| ())
}

async fn empty(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, "", b"").await?;
    let reply = sandbox.read_file(&c, &path).await?;
    expect(
        reply.status(200)?.body.is_empty(),
        "an empty body",
        reply.brief(),
    )
}

async fn gzip(c: Context) -> Verdict {
    let content = b"again and ".repeat(2_000);
    let (sandbox, path) = made(&c, ".txt", &content).await?;
    let reply = c
        .send(get(&c, &sandbox, &path).header("accept-encoding", "gzip, deflate"))
        .await?;
    reply.status(200)?;
    let plain = if reply.header("content-encoding") == "gzip" {
        let mut plain = Vec::new();
        let most = u64::try_from(content.len()).unwrap_or(u64::MAX) + 1;
        let read = flate2::read::GzDecoder::new(&reply.body[..])
            .take(most)
            .read_to_end(&mut plain);
        read.map_err(|error| fail("a gzip body, as content-encoding says", error.to_string()))?;
        plain
    } else {
        reply.body.to_vec()
    };
    expect(
        plain == content,
        "the file's content",
        format!("{} bytes", plain.len()),
    )
}

async fn range(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, "", b"0123456789").await?;
    let reply = c
        .send(get(&c, &sandbox, &path).header("range", "bytes=2-5"))
        .await?;
    equal("body", reply.status(206)?.text().as_str(), "2345")?;
    equal(
        "content-range",
        reply.header("content-range"),
        "bytes 2-5/10",
    )
}

async fn kind(c: Context) -> Verdict {
    for (name, wanted) in [
        (".txt", "text/plain"),
        (".json", "application/json"),
        (".html", "text/html"),
    ] {
        let (sandbox, path) = made(&c, name, b"{}").await?;
        let reply = sandbox.read_file(&c, &path).await?;
        let kind = reply.status(200)?.header("content-type");
        expect(
            kind.starts_with(wanted),
            format!("content type {wanted} for {name}"),
            kind,
        )?;
    }
    Ok(())
}

async fn disposition(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, ".txt", b"x").await?;
    let reply = sandbox.read_file(&c, &path).await?;
    let disposition = reply.status(200)?.header("content-disposition");
    expect(disposition.starts_with("inline"), "inline", disposition)
}

async fn encoding(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, ".txt", b"x").await?;
    let request = get(&c, &sandbox, &path).header("accept-encoding", "identity;q=0, *;q=0");
    c.send(request).await?.status(406).map(|_| ())
}

async fn plus(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, " with space", b"found").await?;
    let query = format!("/files?path={}", percent(&path).replace("%20", "+"));
    let reply = c.send(sandbox.agent(&c, Method::GET, &query)).await?;
    equal("body", reply.status(200)?.text().as_str(), "found")
}

async fn unknown_user(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, "", b"x").await?;
    let query = format!(
        "/files?path={}&username=nobody-of-this-name",
        percent(&path)
    );
    c.send(sandbox.agent(&c, Method::GET, &query))
        .await?
        .refusal(401)
        .map(|_| ())
}

async fn no_token(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, "", b"x").await?;
    let request = get(&c, &sandbox, &path).without("x-access-token");
    c.send(request).await?.refusal(401).map(|_| ())
}

async fn wrong_token(c: Context) -> Verdict {
    let (sandbox, path) = made(&c, "", b"x").await?;
    let request = get(&c, &sandbox, &path).with("x-access-token", "not-the-token-of-this-sandbox");
    c.send(request).await?.refusal(401).map(|_| ())
}

async fn metrics(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let body = c
        .send(sandbox.agent(&c, Method::GET, "/metrics"))
        .await?
        .status(200)?
        .json()?;
    for name in [
        "ts",
        "cpu_count",
        "cpu_used_pct",
        "mem_total",
        "mem_used",
        "disk_used",
        "disk_total",
    ] {
        expect(
            body[name].is_number(),
            format!("member `{name}` as a number"),
            json!(body).to_string(),
        )?;
    }
    Ok(())
}
