//! Logs: what happened to a sandbox.

use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use super::life::missing;
use crate::reply::{error, json as answer, query};
use crate::world::{World, lock};

/// Levels, the least first.
const LEVELS: &[&str] = &["debug", "info", "warn", "error"];
/// Most entries of one answer.
const MOST: usize = 1_000;

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Timestamp,
    pub level: &'static str,
    pub message: String,
}

fn shown(w: &World, entry: &Entry) -> Value {
    let mut shown = json!({
        "timestamp": entry.at.to_string(), "message": entry.message, "level": entry.level,
        "fields": { "logger": "envd" },
    });
    if w.on("logs-without-level")
        && let Some(members) = shown.as_object_mut()
    {
        members.remove("level");
    }
    shown
}

fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

fn limit(w: &World, call: &Call) -> usize {
    let asked = query(&call.query, "limit").and_then(|text| text.parse().ok());
    asked
        .filter(|_| !w.on("logs-limit-ignored"))
        .unwrap_or(MOST)
        .min(MOST)
}

fn entries(w: &World, id: &str) -> Result<Vec<Entry>, Response> {
    match w.find(id) {
        Some(sandbox) => Ok(lock(&sandbox.logs).clone()),
        None if w.on("logs-of-missing-empty") => Ok(Vec::new()),
        None => Err(missing(w, id)),
    }
}

pub fn v1(w: &World, call: &Call, id: &str) -> Response {
    let mut all = match entries(w, id) {
        Ok(all) => all,
        Err(refusal) => return refusal,
    };
    all.truncate(limit(w, call));
    let lines: Vec<Value> = all
        .iter()
        .map(|entry| json!({ "timestamp": entry.at.to_string(), "line": shown(w, entry).to_string() }))
        .collect();
    let shown: Vec<Value> = all.iter().map(|entry| shown(w, entry)).collect();
    if w.on("logs-v1-without-lines") {
        return answer(200, &json!({ "logEntries": shown }));
    }
    answer(200, &json!({ "logs": lines, "logEntries": shown }))
}

pub fn v2(w: &World, call: &Call, id: &str) -> Response {
    let mut all = match entries(w, id) {
        Ok(all) => all,
        Err(refusal) => return refusal,
    };
    let get = |name: &str| query(&call.query, name);
    match get("direction").as_deref() {
        Some("forward") => {}
        _ if w.on("logs-direction-ignored") => {}
        None | Some("backward") => all.reverse(),
        Some(_) => return error(w, 400, "direction is forward or backward"),
    }
    if let Some(level) = get("level").filter(|_| !w.on("logs-level-ignored")) {
        let Some(least) = rank(&level) else {
            return error(w, 400, "level is debug, info, warn or error");
        };
        all.retain(|entry| rank(entry.level) >= Some(least));
    }
    if let Some(text) = get("search").filter(|_| !w.on("logs-search-ignored")) {
        all.retain(|entry| entry.message.contains(&text));
    }
    all.truncate(limit(w, call));
    let shown: Vec<Value> = all.iter().map(|entry| shown(w, entry)).collect();
    answer(200, &json!({ "logs": shown }))
}
