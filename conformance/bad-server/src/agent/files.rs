//! `GET /files` and `POST /files`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{MAX_BODY, User, resolved, user};
use crate::reply::{bare, decoded, header, json as answer_json, query, with};
use crate::tree::TreeError;
use crate::world::{Sandbox, World, lock};

fn refuse(w: &World, code: u16, message: &str) -> Response {
    if w.on("file-errors-as-text") {
        return bare(code, "text/plain", message.to_owned());
    }
    answer_json(code, &json!({ "code": code, "message": message }))
}

pub async fn answer(w: &Arc<World>, sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = head.uri.query().unwrap_or("").to_owned();
    let get = |name: &str| {
        if w.on("plus-is-plus") && name == "path" {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            return pairs
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| decoded(value, false))
                .next();
        }
        query(&text, name)
    };
    let write = head.method == http::Method::POST;
    if let Err(message) = allowed(w, sandbox, &head.headers, &get, write) {
        return refuse(w, 401, message);
    }
    let name = get("username")
        .filter(|_| !w.on("username-ignored"))
        .unwrap_or_default();
    let Some(who) = user(w, &name).or_else(|| {
        w.on("files-unknown-user-200")
            .then(|| user(w, "user"))
            .flatten()
    }) else {
        return refuse(w, 401, &format!("invalid username: '{name}'"));
    };
    let path = get("path").filter(|path| !path.is_empty());
    match head.method.as_str() {
        "GET" => match path {
            Some(path) => download(w, sandbox, &resolved(w, &who, &path), &head.headers),
            None => refuse(w, 400, "path is missing"),
        },
        "POST" => match to_bytes(body, MAX_BODY).await {
            Ok(body) => upload(w, sandbox, &who, path, &head.headers, body).await,
            Err(_) => refuse(w, 413, "the body is too large"),
        },
        _ => refuse(w, 405, "method not allowed"),
    }
}

/// Whether a request without tokens is signed by this sandbox's.
pub fn is_signed(w: &World, sandbox: &Sandbox, request: &Request) -> bool {
    let text = request.uri().query().unwrap_or("");
    let get = |name: &str| query(text, name);
    let write = request.method() == http::Method::POST;
    sandbox.token.is_some()
        && get("signature").is_some()
        && allowed(w, sandbox, &HeaderMap::new(), &get, write).is_ok()
}

fn allowed(
    w: &World,
    sandbox: &Sandbox,
    headers: &HeaderMap,
    get: &impl Fn(&str) -> Option<String>,
    write: bool,
) -> Result<(), &'static str> {
    let Some(token) = sandbox.token.as_deref().filter(|_| !w.on("files-open")) else {
        return Ok(());
    };
    if let Some(given) = header(headers, "x-access-token") {
        let right = given == token || w.on("files-any-token");
        return if right {
            Ok(())
        } else {
            Err("access token present in header but does not match")
        };
    }
    let Some(signature) = get("signature") else {
        if w.on("missing-signature-words") {
            return Err("unauthorized");
        }
        return Err("missing signature query parameter");
    };
    if w.on("signatures-refused") {
        return Err("invalid signature");
    }
    let expires = get("signature_expiration");
    let operation = match write {
        true if w.on("signature-for-any-operation") => "read",
        true => "write",
        false => "read",
    };
    let path = get("path").unwrap_or_default();
    let name = get("username").unwrap_or_default();
    let mut signed = format!("{path}:{operation}:{name}:{token}");
    if let Some(expires) = expires
        .as_ref()
        .filter(|_| !w.on("signature-without-expiry"))
    {
        signed.push_str(&format!(":{expires}"));
    }
    let wanted = format!(
        "v1_{}",
        STANDARD_NO_PAD.encode(Sha256::digest(signed.as_bytes()))
    );
    let path_free = w.on("signature-for-any-path")
        && signature.starts_with("v1_")
        && signature.len() == wanted.len();
    if signature != wanted && !w.on("signature-unchecked") && !path_free {
        return Err("invalid signature");
    }
    let past = expires
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|expires| expires < jiff::Timestamp::now().as_second());
    match past && !w.on("expired-signature-accepted") {
        true if w.on("expired-signature-words") => Err("expired"),
        true => Err("signature is already expired"),
        false => Ok(()),
    }
}

fn download(w: &World, sandbox: &Sandbox, path: &str, headers: &HeaderMap) -> Response {
    let content = lock(&sandbox.tree).read(path);
    let mut content = match content {
        Ok(content) => content,
        Err(TreeError::IsDir) if w.on("read-dir-200") => Vec::new(),
        Err(TreeError::IsDir) => return refuse(w, 400, "the path is a directory"),
        Err(_) if w.on("read-missing-200") => Vec::new(),
        Err(error) => return refuse(w, 404, &error.to_string()),
    };
    if content.is_empty() && w.on("empty-file-404") {
        return refuse(w, 404, "no such file");
    }
    if w.on("write-loses-last-byte") {
        content.pop();
    }
    if content.len() > 1_000_000 && w.on("large-file-cut") {
        content.truncate(1_000_000);
    }
    let stamp = lock(&sandbox.tree)
        .get(path)
        .map(|node| format!("\"{}\"", node.modified.as_microsecond()))
        .unwrap_or_default();
    if header(headers, "if-none-match") == Some(stamp.as_str()) && !w.on("conditional-ignored") {
        return crate::reply::empty(304);
    }
    let accepts = header(headers, "accept-encoding").unwrap_or("");
    if accepts.contains("identity;q=0")
        && !accepts.contains("gzip")
        && !w.on("accept-encoding-ignored")
    {
        return refuse(w, 406, "no acceptable encoding");
    }
    let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
        _ if w.on("content-type-fixed") => "application/octet-stream",
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    };
    let name = path.rsplit('/').next().unwrap_or("");
    let disposition = if w.on("disposition-attachment") {
        "attachment"
    } else {
        "inline"
    };
    let dress = |response| {
        with(
            with(response, "etag", &stamp),
            "content-disposition",
            &format!("{disposition}; filename=\"{name}\""),
        )
    };
    if let Some((from, to)) = header(headers, "range")
        .and_then(ranged)
        .filter(|_| !w.on("range-ignored"))
    {
        let total = content.len();
        let to = to.min(total.saturating_sub(1));
        let piece = content.get(from..=to).unwrap_or_default().to_vec();
        return with(
            dress(bare(206, kind, piece)),
            "content-range",
            &format!("bytes {from}-{to}/{total}"),
        );
    }
    if accepts.contains("gzip") {
        let body = if w.on("gzip-in-name-only") {
            content
        } else {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let _ = encoder.write_all(&content);
            encoder.finish().unwrap_or_default()
        };
        return with(dress(bare(200, kind, body)), "content-encoding", "gzip");
    }
    dress(bare(200, kind, content))
}

fn ranged(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// The files of an upload: path as given, and content.
async fn parts(
    w: &World,
    path: Option<String>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let kind = header(headers, "content-type").unwrap_or("").to_owned();
    if let Ok(boundary) = multer::parse_boundary(&kind) {
        if w.on("multipart-refused") {
            return Err("unsupported content type");
        }
        let stream =
            futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
        let mut form = multer::Multipart::new(stream, boundary);
        let mut files = Vec::new();
        while let Some(field) = form
            .next_field()
            .await
            .map_err(|_| "the form is not valid")?
        {
            if field.name() != Some("file") && !w.on("any-part-name") {
                continue;
            }
            let mut name = field.file_name().unwrap_or("").to_owned();
            if w.on("part-name-cut") {
                name = name.rsplit('/').next().unwrap_or("").to_owned();
            }
            let target = path
                .clone()
                .filter(|_| !w.on("query-path-ignored"))
                .unwrap_or(name);
            let content = field.bytes().await.map_err(|_| "the form is not valid")?;
            files.push((target, content.to_vec()));
        }
        if w.on("first-part-only") {
            files.truncate(1);
        }
        return Ok(files);
    }
    let octets = kind.starts_with("application/octet-stream") && !w.on("octets-refused");
    if !octets && !w.on("any-content-type") {
        return Err("unsupported content type");
    }
    let path = path.or_else(|| w.on("octets-without-path").then(|| "unnamed".to_owned()));
    Ok(vec![(path.ok_or("path is missing")?, body.to_vec())])
}

async fn upload(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    path: Option<String>,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let body = if header(headers, "content-encoding") == Some("gzip") && !w.on("gzip-kept") {
        let mut plain = Vec::new();
        let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
        match flate2::read::GzDecoder::new(&body[..])
            .take(limit)
            .read_to_end(&mut plain)
        {
            Ok(_) => Bytes::from(plain),
            Err(_) => return refuse(w, 400, "the body is not gzip"),
        }
    } else {
        body
    };
    let files = match parts(w, path, headers, body).await {
        Ok(files) => files,
        Err(why) => return refuse(w, 400, why),
    };
    let metadata = match metadata(w, headers) {
        Ok(metadata) => metadata,
        Err(why) => return refuse(w, 400, why),
    };
    let mut seen = BTreeSet::new();
    let mut written = Vec::new();
    for (path, content) in files {
        let path = resolved(w, who, &path);
        if !seen.insert(path.clone()) && !w.on("duplicate-target-200") {
            return refuse(w, 400, "a target is named twice");
        }
        match stored(w, sandbox, who, &path, content, &metadata) {
            Ok(item) => written.push(item),
            Err(TreeError::IsDir) if w.on("write-dir-200") => {}
            Err(TreeError::IsDir) => return refuse(w, 400, "the path is a directory"),
            Err(TreeError::NoSpace) if !w.on("no-space-500") => {
                return refuse(w, 507, "no space is left");
            }
            Err(error) => return refuse(w, 500, &error.to_string()),
        }
    }
    if w.on("upload-answers-object") {
        return answer_json(200, &json!({ "files": written }));
    }
    answer_json(
        if w.on("upload-201") { 201 } else { 200 },
        &Value::Array(written),
    )
}

fn stored(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    path: &str,
    mut content: Vec<u8>,
    metadata: &BTreeMap<String, String>,
) -> Result<Value, TreeError> {
    let mut tree = lock(&sandbox.tree);
    if w.on("write-keeps-tail") {
        let before = tree.read(path).unwrap_or_default();
        content.extend_from_slice(before.get(content.len()..).unwrap_or_default());
    }
    if w.on("write-no-parents") && tree.get(&crate::tree::parent(path)).is_none() {
        return Err(TreeError::Missing);
    }
    let owner = if w.on("upload-owner-root") {
        "root"
    } else {
        &who.name
    };
    if w.on("upload-without-chmod") {
        tree.write(path, content, owner)?;
    } else {
        tree.upload(path, content, owner)?;
    }
    if let Some(node) = tree.get_mut(path) {
        if w.on("upload-mode-0600") {
            node.mode = 0o600;
        }
        if !w.on("file-metadata-merged") {
            node.metadata.clear();
        }
        if !w.on("file-metadata-dropped") {
            node.metadata.extend(metadata.clone());
        }
    }
    let name = path.rsplit('/').next().unwrap_or("");
    let mut item = json!({ "path": path, "name": name, "type": "file" });
    if !metadata.is_empty() && !w.on("upload-without-metadata") {
        item["metadata"] = json!(metadata);
    }
    if w.on("upload-omits-name") {
        item = json!({ "path": path, "type": "file" });
    }
    Ok(item)
}

fn metadata(w: &World, headers: &HeaderMap) -> Result<BTreeMap<String, String>, &'static str> {
    let mut all = BTreeMap::new();
    let mut total = 0;
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix("x-metadata-") else {
            continue;
        };
        let value = value.to_str().map_err(|_| "metadata is printable ASCII")?;
        total += key.len() + value.len();
        if (key.len() > 246 || total > 4_096) && !w.on("file-metadata-unlimited") {
            return Err("the metadata is too large");
        }
        all.insert(key.to_owned(), value.to_owned());
    }
    Ok(all)
}
