//! Metrics: a sample each second, made up when it is asked for.

use std::sync::Arc;

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::Call;
use super::life::missing;
use crate::reply::{error, json as answer, query};
use crate::world::{Sandbox, World};

/// Most sandboxes of one call.
const MOST: usize = 100;
/// Samples that are kept.
const KEPT: i64 = 600;

fn sample(w: &World, at: Timestamp) -> Value {
    let (cpus, memory) = if w.on("metrics-of-host") {
        (64, 274_877_906_944_u64)
    } else {
        (2, 536_870_912)
    };
    let mut sample = json!({
        "timestamp": at.to_string(), "timestampUnix": at.as_second(), "cpuCount": cpus, "cpuUsedPct": 1.5,
        "memUsed": 100_000_000, "memTotal": memory, "memCache": 1_000_000, "diskUsed": 1_000_000,
        "diskTotal": 1_073_741_824,
    });
    if w.on("metrics-without-disk")
        && let Some(members) = sample.as_object_mut()
    {
        members.remove("diskUsed");
        members.remove("diskTotal");
    }
    sample
}

fn times(w: &World, sandbox: &Sandbox) -> Vec<Timestamp> {
    let lived = Timestamp::now().duration_since(sandbox.started).as_secs();
    if w.on("metrics-never") {
        return Vec::new();
    }
    (0..=lived.min(KEPT))
        .filter_map(|second| {
            let since = SignedDuration::from_secs(second);
            sandbox.started.checked_add(since).ok()
        })
        .collect()
}

pub fn one(w: &World, call: &Call, id: &str) -> Response {
    let Some(sandbox) = w.find(id) else {
        return if w.on("metrics-of-missing-empty") {
            answer(200, &json!([]))
        } else {
            missing(w, id)
        };
    };
    let bound = |name: &str| query(&call.query, name).and_then(|text| text.parse::<i64>().ok());
    let start = bound("start").filter(|_| !w.on("metrics-start-ignored"));
    let end = bound("end").filter(|_| !w.on("metrics-end-ignored"));
    let samples: Vec<Value> = times(w, &sandbox)
        .into_iter()
        .filter(|at| start.is_none_or(|start| at.as_second() >= start))
        .filter(|at| end.is_none_or(|end| at.as_second() <= end))
        .map(|at| sample(w, at))
        .collect();
    if w.on("metrics-wrapped") {
        return answer(200, &json!({ "metrics": samples }));
    }
    answer(200, &Value::Array(samples))
}

pub fn many(w: &World, call: &Call) -> Response {
    let ids = query(&call.query, "sandbox_ids").unwrap_or_default();
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > MOST && !w.on("metrics-101-accepted") {
        return error(w, 400, "at most 100 sandboxes");
    }
    let found: Vec<Arc<Sandbox>> = ids.iter().filter_map(|id| w.find(id)).collect();
    let mut all = Map::new();
    for sandbox in found {
        if let Some(at) = times(w, &sandbox).last() {
            all.insert(sandbox.id.clone(), sample(w, *at));
        }
        if w.on("metrics-of-first-only") {
            break;
        }
    }
    answer(200, &json!({ "sandboxes": all }))
}
