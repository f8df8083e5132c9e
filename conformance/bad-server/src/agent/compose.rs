//! `POST /files/compose`: one file out of several.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::{MAX_BODY, resolved, user};
use crate::reply::json as answer_json;
use crate::world::{Sandbox, World, lock};

pub async fn answer(w: &Arc<World>, sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let refuse = |why: &str| answer_json(400, &json!({ "code": 400, "message": why }));
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        return refuse("the body is too large");
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(who) = user(w, body["username"].as_str().unwrap_or("")) else {
        return refuse("invalid username");
    };
    let mut tree = lock(&sandbox.tree);
    let mut content = Vec::new();
    let sources = body["source_paths"].as_array().cloned().unwrap_or_default();
    for source in sources.iter().filter_map(Value::as_str) {
        match tree.read(&resolved(w, &who, source)) {
            Ok(piece) => content.extend(piece),
            Err(error) => return refuse(&error.to_string()),
        }
    }
    let path = resolved(w, &who, body["destination"].as_str().unwrap_or(""));
    if let Err(error) = tree.write(&path, content, &who.name) {
        return refuse(&error.to_string());
    }
    let name = path.rsplit('/').next().unwrap_or("");
    answer_json(
        200,
        &json!([{ "path": path, "name": name, "type": "file" }]),
    )
}
