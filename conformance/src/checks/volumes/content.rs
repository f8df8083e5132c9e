//! What is in a volume: by its own API, and in sandboxes.

use http::Method;
use serde_json::json;

use super::{Volume, volume};
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::{Context, unique};
use crate::sandbox::Sandbox;
use crate::wire::encode::percent;
use crate::wire::reply::text;
use crate::wire::request::Request;

pub const CHECKS: &[Check] = &[
    Check::new(
        "volumes/content-write",
        &["volume-write-empty"],
        "A file that is put is read back.",
        |c| Box::pin(write(c)),
    ),
    Check::new(
        "volumes/content-stat",
        &["volume-stat-without-times"],
        "A stat has all members.",
        |c| Box::pin(stat(c)),
    ),
    Check::new(
        "volumes/content-dir",
        &["volume-list-empty"],
        "A folder is made and listed.",
        |c| Box::pin(dir(c)),
    ),
    Check::new(
        "volumes/content-remove",
        &["volume-remove-ignored"],
        "A path is removed.",
        |c| Box::pin(remove(c)),
    ),
    Check::new(
        "volumes/content-token",
        &["volume-any-token"],
        "Another token is refused.",
        |c| Box::pin(token(c)),
    ),
    Check::new(
        "volumes/content-error-code",
        &["volume-code-as-number"],
        "The code of an error is text.",
        |c| Box::pin(error_code(c)),
    ),
    Check::new(
        "volumes/mount",
        &["volumes-not-mounted"],
        "A mounted volume is seen in the sandbox at its path.",
        |c| Box::pin(mount(c)),
    ),
    Check::new(
        "volumes/shared",
        &["volumes-copied", "volumes-not-mounted"],
        "What one sandbox writes to a volume another one reads.",
        |c| Box::pin(shared(c)),
    ),
];

impl Volume {
    /// A request to its content: `what` is path, dir or file.
    fn request(&self, c: &Context, method: Method, what: &str, path: &str) -> Request {
        let target = c.target();
        let origin = match (&target.volume_url, &self.domain) {
            (Some(url), _) => url.clone(),
            (None, Some(domain)) => format!("https://api.{domain}"),
            (None, None) => target.url.clone(),
        };
        let path = format!("/volumecontent/{}/{what}?path={}", self.id, percent(path));
        Request::new(&target.way, method, &origin, &path, c.usual())
            .header("authorization", format!("Bearer {}", self.token))
    }

    async fn put(&self, c: &Context, path: &str, content: &str) -> Result<(), Stop> {
        let request = self
            .request(c, Method::PUT, "file", path)
            .header("content-type", "application/octet-stream")
            .body(content.to_owned());
        c.send(request).await?.status(201).map(|_| ())
    }
}

async fn write(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let content = unique();
    volume.put(&c, "/one.txt", &content).await?;
    let reply = c
        .send(volume.request(&c, Method::GET, "file", "/one.txt"))
        .await?;
    equal(
        "content",
        reply.status(200)?.text().as_str(),
        content.as_str(),
    )
}

async fn stat(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    volume.put(&c, "/one.txt", "12345").await?;
    let body = c
        .send(volume.request(&c, Method::GET, "path", "/one.txt"))
        .await?
        .status(200)?
        .json()?;
    for member in ["mode", "uid", "gid", "atime", "mtime", "ctime", "path"] {
        expect(
            body.get(member).is_some(),
            format!("member `{member}`"),
            body.to_string(),
        )?;
    }
    equal("name", text(&body, "name")?.as_str(), "one.txt")?;
    equal("type", text(&body, "type")?.as_str(), "file")?;
    equal("size", &body["size"], &json!(5))
}

async fn dir(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let made = c
        .send(volume.request(&c, Method::POST, "dir", "/folder"))
        .await?;
    let body = made.status(201)?.json()?;
    equal("type", &body["type"], &json!("directory"))?;
    volume.put(&c, "/folder/one.txt", "one").await?;
    let items = c
        .send(volume.request(&c, Method::GET, "dir", "/folder"))
        .await?
        .status(200)?
        .array()?;
    let names: Vec<&str> = items
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect();
    equal("names in the folder", &names, &vec!["one.txt"])
}

async fn remove(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    volume.put(&c, "/one.txt", "one").await?;
    c.send(volume.request(&c, Method::DELETE, "path", "/one.txt"))
        .await?
        .status(204)?;
    c.send(volume.request(&c, Method::GET, "path", "/one.txt"))
        .await?
        .status(404)
        .map(|_| ())
}

async fn token(c: Context) -> Verdict {
    let own = volume(&c).await?;
    let other = volume(&c).await?;
    own.put(&c, "/one.txt", "one").await?;
    let mut wrong = own.clone();
    for token in [other.token, "no-token".to_owned()] {
        wrong.token = token;
        c.send(wrong.request(&c, Method::GET, "file", "/one.txt"))
            .await?
            .one_of(&[401, 403])?;
    }
    Ok(())
}

async fn error_code(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let reply = c
        .send(volume.request(&c, Method::GET, "path", "/no-such"))
        .await?;
    let body = reply.status(404)?.json()?;
    text(&body, "code")?;
    text(&body, "message").map(|_| ())
}

async fn with(c: &Context, volume: &Volume) -> Result<Sandbox, Stop> {
    c.fresh(json!({ "volumeMounts": [{ "name": volume.name, "path": "/mnt/suite" }] }))
        .await
}

async fn mount(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let content = unique();
    volume
        .put(&c, "/one.txt", &content)
        .await
        .map_err(|stop| stop.blocks("a file could not be put into a volume"))?;
    let sandbox = with(&c, &volume).await?;
    let done = sandbox.run(&c, "cat /mnt/suite/one.txt").await?;
    equal("content", done.out().as_str(), content.as_str())
}

async fn shared(c: Context) -> Verdict {
    let volume = volume(&c).await?;
    let (one, other) = (with(&c, &volume).await?, with(&c, &volume).await?);
    let content = unique();
    one.run(&c, &format!("echo {content} > /mnt/suite/one.txt"))
        .await?;
    let done = other.run(&c, "cat /mnt/suite/one.txt").await?;
    equal(
        "content",
        done.out().as_str(),
        format!("{content}\n").as_str(),
    )
}
