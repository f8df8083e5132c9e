//! Lists.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use super::shape::listed;
use crate::reply::{decoded, error, json as answer, query, with};
use crate::world::{Sandbox, World};

pub fn v1(w: &World, call: &Call) -> Response {
    let mut all = w.living();
    if let Err(refusal) = filter(w, call, &mut all) {
        return refusal;
    }
    let items: Vec<Value> = all.iter().map(|one| listed(w, one)).collect();
    if w.on("list-v1-wrapped") {
        return answer(200, &json!({ "sandboxes": items }));
    }
    answer(200, &Value::Array(items))
}

pub fn v2(w: &World, call: &Call) -> Response {
    page(w, call).unwrap_or_else(|refusal| refusal)
}

fn page(w: &World, call: &Call) -> Result<Response, Response> {
    let get = |name: &str| query(&call.query, name);
    let refuse = |why: &str| Err(error(w, 400, why));
    let limit = match get("limit").map(|text| text.parse::<usize>()) {
        None => 100,
        Some(Ok(0)) if w.on("limit-zero-accepted") => 100,
        Some(Ok(101..)) if w.on("limit-101-accepted") => 100,
        Some(Ok(limit @ 1..=100)) => limit,
        _ => return refuse("limit must be from 1 to 100"),
    };
    let ascending = match get("order").as_deref() {
        None | Some("desc") => w.on("oldest-first"),
        Some("asc") => !w.on("order-ignored"),
        _ => return refuse("order is asc or desc"),
    };
    let states: Option<Vec<String>> =
        get("state").map(|text| text.split(',').map(str::to_owned).collect());
    if states
        .iter()
        .flatten()
        .any(|state| state != "running" && state != "paused")
        && !w.on("bad-state-accepted")
    {
        return refuse("state is running or paused");
    }
    let mut all: Vec<Arc<Sandbox>> = w.living();
    if let Some(states) = &states {
        all.retain(|one| {
            let own = if one.life.is_paused() {
                "paused"
            } else {
                "running"
            };
            states.iter().any(|state| state == own) || w.on("state-filter-ignored")
        });
    }
    if w.on("paused-not-listed") {
        all.retain(|one| !one.life.is_paused());
    }
    filter(w, call, &mut all)?;
    let total = all.iter().filter(|one| !one.life.is_paused()).count();
    all.sort_by(|a, b| {
        let by_time = a.started.cmp(&b.started);
        if ascending {
            by_time
        } else {
            by_time.reverse()
        }
        .then(a.id.cmp(&b.id))
    });
    let way = if ascending { "asc" } else { "desc" };
    if let Some(token) = get("nextToken") {
        let text = URL_SAFE_NO_PAD
            .decode(&token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let last = text.as_deref().and_then(|text| text.strip_prefix("after_"));
        let last = last.and_then(|last| last.split_once('_'));
        if last.is_some_and(|(order, _)| order != way) && !w.on("token-of-any-order") {
            return refuse("nextToken is of another order");
        }
        let last = last.map(|(_, id)| id);
        match (
            last,
            all.iter().position(|one| Some(one.id.as_str()) == last),
        ) {
            (Some(_), Some(at)) if !w.on("page-repeats") => drop(all.drain(..=at)),
            (Some(_), Some(_)) => {}
            (None, _) if w.on("bad-next-token-ignored") => {}
            (None, _) => return refuse("nextToken is not valid"),
            (Some(_), None) => all.clear(),
        }
    }
    let more = all.len() > limit;
    if !w.on("limit-ignored") {
        all.truncate(limit);
    }
    let items: Vec<Value> = all.iter().map(|one| listed(w, one)).collect();
    let mut reply = answer(
        200,
        &if w.on("list-wrapped") {
            json!({ "sandboxes": items })
        } else {
            Value::Array(items)
        },
    );
    if let Some(last) = all
        .last()
        .filter(|_| (more && !w.on("no-next-token")) || w.on("token-on-last-page"))
    {
        reply = with(
            reply,
            "x-next-token",
            &URL_SAFE_NO_PAD.encode(format!("after_{way}_{}", last.id)),
        );
    }
    if !w.on("no-total-running") {
        reply = with(reply, "x-total-running", &total.to_string());
    }
    Ok(reply)
}

fn filter(w: &World, call: &Call, all: &mut Vec<Arc<Sandbox>>) -> Result<(), Response> {
    if let Some(filter) =
        query(&call.query, "metadata").filter(|_| !w.on("metadata-filter-ignored"))
    {
        let text = if w.on("metadata-decoded-twice") {
            filter
        } else {
            decoded(&filter, true)
        };
        let wanted: Vec<(String, String)> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (decoded(key, true), decoded(value, true)))
            .collect();
        let matches = |one: &Sandbox, (key, value): &(String, String)| {
            let have = one.metadata[key.as_str()].as_str();
            if w.on("metadata-prefix-match") {
                have.is_some_and(|have| have.starts_with(value.as_str()))
            } else {
                have == Some(value)
            }
        };
        all.retain(|one| {
            if w.on("metadata-any") {
                wanted.iter().any(|pair| matches(one, pair))
            } else {
                wanted.iter().all(|pair| matches(one, pair))
            }
        });
    }
    if let Some(text) =
        query(&call.query, "startedAfter").filter(|_| !w.on("started-after-ignored"))
    {
        let Ok(after) = text.parse::<Timestamp>() else {
            if w.on("bad-started-after-accepted") {
                return Ok(());
            }
            return Err(error(w, 400, "startedAfter is no time"));
        };
        all.retain(|one| one.started >= after);
    }
    if let Some(template) =
        query(&call.query, "template").filter(|_| !w.on("template-filter-ignored"))
    {
        if template.contains(':') && !w.on("tag-in-filter-accepted") {
            return Err(error(w, 400, "template takes no tag"));
        }
        if template != "base" && w.on("unknown-template-filter-404") {
            return Err(error(w, 404, "no such template"));
        }
        all.retain(|one| one.template == template.split(':').next().unwrap_or(""));
    }
    Ok(())
}
