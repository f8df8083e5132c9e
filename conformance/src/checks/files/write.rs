//! Uploads.

use std::io::Write as _;

use http::Method;
use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::checks::filesystem::stat_of;
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::wire::encode::percent;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

pub const CHECKS: &[Check] = &[
    Check::new(
        "files/write-octets",
        &["octets-refused", "write-loses-last-byte"],
        "What is uploaded as octets is read back, byte for byte.",
        |c| Box::pin(octets(c)),
    ),
    Check::new(
        "files/write-answer",
        &["upload-201", "upload-answers-object", "upload-omits-name"],
        "An upload answers 200 with an array of path, name and type.",
        |c| Box::pin(answer(c)),
    ),
    Check::new(
        "files/write-multipart",
        &["multipart-refused", "query-path-ignored"],
        "A form with a part `file` is taken; `path` says where to.",
        |c| Box::pin(multipart(c)),
    ),
    Check::new(
        "files/write-part-name",
        &["part-name-cut"],
        "Without `path` the part's filename is the path, slashes and all.",
        |c| Box::pin(part_name(c)),
    ),
    Check::new(
        "files/write-many",
        &["first-part-only"],
        "A form may hold several files.",
        |c| Box::pin(many(c)),
    ),
    Check::new(
        "files/write-other-part",
        &["any-part-name"],
        "Parts of other names are no files.",
        |c| Box::pin(other_part(c)),
    ),
    Check::new(
        "files/write-gzip",
        &["gzip-kept"],
        "A body in gzip is unpacked.",
        |c| Box::pin(gzip(c)),
    ),
    Check::new(
        "files/write-overwrites",
        &["write-keeps-tail"],
        "An upload replaces a longer file.",
        |c| Box::pin(overwrites(c)),
    ),
    Check::new(
        "files/write-parents",
        &["write-no-parents"],
        "An upload makes the parents.",
        |c| Box::pin(parents(c)),
    ),
    Check::new(
        "files/write-owner",
        &["upload-owner-root", "upload-mode-0600"],
        "An uploaded file is the user's, 0644.",
        |c| Box::pin(owner(c)),
    ),
    Check::new(
        "files/write-username",
        &["username-ignored"],
        "`username` says whose file it is.",
        |c| Box::pin(username(c)),
    ),
    Check::new(
        "files/write-relative",
        &["relative-to-root"],
        "A relative path is below the user's home.",
        |c| Box::pin(relative(c)),
    ),
    Check::new(
        "files/write-dir",
        &["write-dir-200"],
        "Writing to a folder is a 400.",
        |c| Box::pin(dir(c)),
    ),
    Check::new(
        "files/write-type",
        &["any-content-type"],
        "Another content type is a 400.",
        |c| Box::pin(kind(c)),
    ),
    Check::new(
        "files/write-no-path",
        &["octets-without-path"],
        "Octets without `path` are a 400.",
        |c| Box::pin(no_path(c)),
    ),
    Check::new(
        "files/write-twice",
        &["duplicate-target-200"],
        "A form with one target twice is a 400.",
        |c| Box::pin(twice(c)),
    ),
    Check::new(
        "files/write-large",
        &["large-file-cut"],
        "Eight megabytes go up and come down unchanged.",
        |c| Box::pin(large(c)),
    )
    .slow(),
    Check::new(
        "files/metadata",
        &[
            "file-metadata-dropped",
            "upload-without-metadata",
            "stat-without-metadata",
        ],
        "X-Metadata headers are kept, answered and shown by Stat.",
        |c| Box::pin(metadata(c)),
    ),
    Check::new(
        "files/metadata-replaced",
        &["file-metadata-merged"],
        "An upload replaces all metadata.",
        |c| Box::pin(metadata_replaced(c)),
    ),
    Check::new(
        "files/metadata-limit",
        &["file-metadata-unlimited"],
        "Metadata beyond 4096 bytes is a 400.",
        |c| Box::pin(metadata_limit(c)),
    ),
];

const BOUNDARY: &str = "----conformance-boundary";

async fn place(c: &Context) -> Result<(Sandbox, String), Stop> {
    Ok((c.shared().await?, format!("/home/user/{}", c.unique())))
}

fn post(c: &Context, sandbox: &Sandbox, path: &str) -> Request {
    sandbox
        .agent(c, Method::POST, &format!("/files?path={}", percent(path)))
        .header("content-type", "application/octet-stream")
}

fn form(c: &Context, sandbox: &Sandbox, query: &str, parts: &[(&str, &str, &str)]) -> Request {
    let mut body = String::new();
    for (part, file, content) in parts {
        body.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{content}\r\n"
        ));
    }
    body.push_str(&format!("--{BOUNDARY}--\r\n"));
    sandbox
        .agent(c, Method::POST, &format!("/files{query}"))
        .header(
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .body(body)
}

async fn reads(c: &Context, sandbox: &Sandbox, path: &str, wanted: &str) -> Verdict {
    let reply = sandbox.read_file(c, path).await?;
    equal(
        &format!("content of {path}"),
        reply.status(200)?.text().as_str(),
        wanted,
    )
}

async fn octets(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let content: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    c.send(post(&c, &sandbox, &path).body(content.clone()))
        .await?
        .status(200)?;
    let reply = sandbox.read_file(&c, &path).await?;
    expect(
        reply.status(200)?.body[..] == content[..],
        "1000 bytes unchanged",
        format!("{} bytes", reply.body.len()),
    )
}

async fn answer(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let items = c
        .send(post(&c, &sandbox, &path).body("x"))
        .await?
        .status(200)?
        .array()?;
    let name = path.rsplit('/').next().unwrap_or("");
    equal(
        "the answer",
        &Value::Array(items),
        &json!([{ "path": path, "name": name, "type": "file" }]),
    )
}

async fn multipart(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let query = format!("?path={}", percent(&path));
    let other = c.unique();
    c.send(form(&c, &sandbox, &query, &[("file", &other, "by form")]))
        .await?
        .status(200)?;
    reads(&c, &sandbox, &path, "by form").await
}

async fn part_name(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let deep = format!("{path}/a/b.txt");
    c.send(form(&c, &sandbox, "", &[("file", &deep, "deep")]))
        .await?
        .status(200)?;
    reads(&c, &sandbox, &deep, "deep").await
}

async fn many(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let (a, b) = (format!("{path}-a"), format!("{path}-b"));
    let items = c
        .send(form(
            &c,
            &sandbox,
            "",
            &[("file", &a, "1"), ("file", &b, "2")],
        ))
        .await?
        .status(200)?
        .array()?;
    equal("number of answered files", &items.len(), &2)?;
    reads(&c, &sandbox, &a, "1").await?;
    reads(&c, &sandbox, &b, "2").await
}

async fn other_part(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let stray = format!("{path}-stray");
    let parts = [
        ("note", stray.as_str(), "no file"),
        ("file", path.as_str(), "a file"),
    ];
    c.send(form(&c, &sandbox, "", &parts)).await?.status(200)?;
    reads(&c, &sandbox, &path, "a file").await?;
    sandbox.read_file(&c, &stray).await?.status(404).map(|_| ())
}

async fn gzip(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder
        .write_all(b"unpacked")
        .and_then(|()| encoder.finish());
    let packed = packed.map_err(|error| Stop::Harness(error.to_string()))?;
    c.send(
        post(&c, &sandbox, &path)
            .header("content-encoding", "gzip")
            .body(packed),
    )
    .await?
    .status(200)?;
    reads(&c, &sandbox, &path, "unpacked").await
}

async fn overwrites(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    sandbox.put(&c, &path, b"a long first content").await?;
    c.send(post(&c, &sandbox, &path).body("short"))
        .await?
        .status(200)?;
    reads(&c, &sandbox, &path, "short").await
}

async fn parents(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let deep = format!("{path}/x/y/z");
    c.send(post(&c, &sandbox, &deep).body("deep"))
        .await?
        .status(200)?;
    reads(&c, &sandbox, &deep, "deep").await
}

async fn owner(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    c.send(post(&c, &sandbox, &path).body("x"))
        .await?
        .status(200)?;
    let entry = stat_of(&c, &sandbox, &path).await?;
    equal("owner", &entry["owner"], &json!("user"))?;
    equal("permissions", &entry["permissions"], &json!("-rw-r--r--"))
}

async fn username(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let query = format!("/files?path={}&username=root", percent(&path));
    let request = sandbox
        .agent(&c, Method::POST, &query)
        .header("content-type", "application/octet-stream")
        .body("x");
    c.send(request).await?.status(200)?;
    equal(
        "owner",
        &stat_of(&c, &sandbox, &path).await?["owner"],
        &json!("root"),
    )
}

async fn relative(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let name = path.rsplit('/').next().unwrap_or("");
    let items = c
        .send(post(&c, &sandbox, name).body("x"))
        .await?
        .status(200)?
        .array()?;
    equal(
        "path",
        &items.first().map(|item| item["path"].clone()),
        &Some(json!(path)),
    )
}

async fn refused(c: &Context, request: Request) -> Result<Reply, Stop> {
    let reply = c.send(request).await?;
    reply.refusal(400)?;
    Ok(reply)
}

async fn dir(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    refused(&c, post(&c, &sandbox, "/home/user").body("x"))
        .await
        .map(|_| ())
}

async fn kind(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    refused(
        &c,
        post(&c, &sandbox, &path)
            .with("content-type", "text/csv")
            .body("x"),
    )
    .await
    .map(|_| ())
}

async fn no_path(c: Context) -> Verdict {
    let sandbox = c.shared().await?;
    let request = sandbox
        .agent(&c, Method::POST, "/files")
        .header("content-type", "application/octet-stream")
        .body("x");
    refused(&c, request).await.map(|_| ())
}

async fn twice(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    refused(
        &c,
        form(
            &c,
            &sandbox,
            "",
            &[("file", &path, "1"), ("file", &path, "2")],
        ),
    )
    .await
    .map(|_| ())
}

async fn large(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let content: Vec<u8> = (0..1_000_000u64).flat_map(u64::to_le_bytes).collect();
    let request = post(&c, &sandbox, &path)
        .body(content.clone())
        .within(c.limit(60.0));
    c.send(request).await?.status(200)?;
    let query = format!("/files?path={}", percent(&path));
    let reply = c
        .send(sandbox.agent(&c, Method::GET, &query).within(c.limit(60.0)))
        .await?;
    let body = &reply.status(200)?.body;
    expect(
        body[..] == content[..],
        "8000000 bytes unchanged",
        format!("{} bytes", body.len()),
    )?;
    sandbox
        .rpc(&c, "filesystem.Filesystem/Remove", &json!({ "path": path }))
        .await
        .map(|_| ())
}

async fn metadata(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    let items = c
        .send(
            post(&c, &sandbox, &path)
                .header("X-Metadata-Colour", "blue")
                .body("x"),
        )
        .await?
        .status(200)?
        .array()?;
    let answered = items
        .first()
        .map(|item| item["metadata"].clone())
        .unwrap_or_default();
    equal("answered metadata", &answered, &json!({ "colour": "blue" }))?;
    equal(
        "metadata of Stat",
        &stat_of(&c, &sandbox, &path).await?["metadata"],
        &json!({ "colour": "blue" }),
    )
}

async fn metadata_replaced(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    c.send(
        post(&c, &sandbox, &path)
            .header("x-metadata-a", "1")
            .body("x"),
    )
    .await?
    .status(200)?;
    c.send(
        post(&c, &sandbox, &path)
            .header("x-metadata-b", "2")
            .body("x"),
    )
    .await?
    .status(200)?;
    equal(
        "metadata of Stat",
        &stat_of(&c, &sandbox, &path).await?["metadata"],
        &json!({ "b": "2" }),
    )
}

async fn metadata_limit(c: Context) -> Verdict {
    let (sandbox, path) = place(&c).await?;
    refused(
        &c,
        post(&c, &sandbox, &path)
            .header("x-metadata-a", "v".repeat(5_000))
            .body("x"),
    )
    .await
    .map(|_| ())
}
