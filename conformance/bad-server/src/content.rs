//! What has no API key: uploads of archives, and the content of volumes with its own token.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::templates::upload;
use crate::reply::{bare, empty, header, json as answer_json, query};
use crate::tree::{Kind, TreeError, clean};
use crate::volumes::{Volume, stat};
use crate::world::{World, lock};

/// Largest body.
const MAX_BODY: usize = 16 * 1024 * 1024;

fn failed(w: &World, status: u16, code: &str) -> Response {
    let code = if w.on("volume-code-as-number") {
        json!(status)
    } else {
        json!(code)
    };
    answer_json(
        status,
        &json!({ "code": code, "message": "it cannot be done" }),
    )
}

pub async fn answer(w: &World, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return failed(w, 413, "too_large");
    };
    let path = head.uri.path().to_owned();
    if let Some(hash) = path.strip_prefix("/upload/") {
        return upload(w, hash, &body);
    }
    let rest = path.strip_prefix("/volumecontent/").unwrap_or("");
    let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(volume) = lock(&w.volumes).get(id).cloned() else {
        return failed(w, 404, "not_found");
    };
    let token =
        header(&head.headers, "authorization").and_then(|text| text.strip_prefix("Bearer "));
    if token != Some(volume.token.as_str()) && !w.on("volume-any-token") {
        return failed(w, 401, "unauthenticated");
    }
    let asked = query(head.uri.query().unwrap_or(""), "path").unwrap_or_default();
    let asked = clean(&asked);
    done(w, &volume, (head.method.as_str(), what), &asked, &body)
}

fn done(w: &World, volume: &Volume, call: (&str, &str), path: &str, body: &[u8]) -> Response {
    let mut tree = lock(&volume.tree);
    let result = match call {
        ("PUT", "file") => tree
            .write(
                path,
                if w.on("volume-write-empty") {
                    Vec::new()
                } else {
                    body.to_vec()
                },
                "user",
            )
            .map(|()| 201),
        ("POST", "dir") => tree.make_dir(path, "user", 0o755).map(|()| 201),
        ("GET", "file") => {
            return match tree.read(path) {
                Ok(content) => bare(200, "application/octet-stream", content),
                Err(_) => failed(w, 404, "not_found"),
            };
        }
        ("GET", "dir") => {
            let is_dir = tree.get(path).is_some_and(|node| node.kind == Kind::Dir);
            if !is_dir {
                return failed(w, 404, "not_found");
            }
            let shown: Vec<Value> = tree
                .below(path, 1)
                .iter()
                .filter_map(|below| Some(stat(w, below, tree.get(below)?)))
                .filter(|_| !w.on("volume-list-empty"))
                .collect();
            return answer_json(200, &Value::Array(shown));
        }
        ("GET", "path") => tree.get(path).map(|_| 200).ok_or(TreeError::Missing),
        ("DELETE", "path") => {
            if tree.get(path).is_none() {
                return failed(w, 404, "not_found");
            }
            if !w.on("volume-remove-ignored") {
                tree.remove(path);
            }
            return empty(204);
        }
        _ => return failed(w, 404, "not_found"),
    };
    match (result, tree.get(path)) {
        (Ok(code), Some(node)) => answer_json(code, &stat(w, path, node)),
        (Err(TreeError::Exists), _) => failed(w, 409, "already_exists"),
        _ => failed(w, 404, "not_found"),
    }
}
