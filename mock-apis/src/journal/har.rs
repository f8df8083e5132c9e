//! The journal as an HTTP archive (HAR 1.2), for the tools that read those.

use serde_json::{Value, json};

use super::{Entry, Journal};

/// The whole journal; `start` is when it began.
pub fn archive(journal: &Journal, start: jiff::Timestamp) -> Value {
    let entries = journal
        .entries()
        .iter()
        .map(|entry| one(entry, start))
        .collect::<Vec<_>>();
    json!({"log": {
        "version": "1.2",
        "creator": {"name": "mock-apis", "version": env!("CARGO_PKG_VERSION")},
        "entries": entries,
    }})
}

fn one(entry: &Entry, start: jiff::Timestamp) -> Value {
    let at = start
        + jiff::SignedDuration::from_millis(
            i64::try_from(entry.at_ms).unwrap_or(i64::MAX / 2_000_000),
        );
    let pairs = |pairs: Vec<(&String, &String)>| {
        pairs
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect::<Vec<_>>()
    };
    let request = &entry.request;
    let query = crate::contract::template::query(&request.query);
    let (status, headers, body) = match &entry.reply {
        Some(reply) => (
            reply.status,
            reply
                .headers
                .iter()
                .map(|(name, value)| (name, value))
                .collect(),
            reply.body.as_str(),
        ),
        None => (0, vec![], ""),
    };
    let time = entry.end.map_or(-1.0, |end| {
        f64::from(u32::try_from(end.at_ms.saturating_sub(entry.at_ms)).unwrap_or(u32::MAX))
    });
    let mark = if request.query.is_empty() { "" } else { "?" };
    json!({
        "startedDateTime": at.to_string(),
        "time": time,
        "request": {
            "method": request.method, "httpVersion": "HTTP/1.1", "cookies": [], "headersSize": -1, "bodySize": request.body_bytes,
            "url": format!("http://{}{}{mark}{}", request.headers.get("host").unwrap_or(&entry.service), request.path, request.query),
            "headers": pairs(request.headers.iter().collect()),
            "queryString": pairs(query.iter().map(|(name, value)| (name, value)).collect()),
            "postData": {"mimeType": request.headers.get("content-type").map_or("", String::as_str), "text": request.body},
        },
        "response": {
            "status": status, "statusText": "", "httpVersion": "HTTP/1.1", "cookies": [], "redirectURL": "", "headersSize": -1,
            "bodySize": body.len(), "headers": pairs(headers),
            "content": {"size": body.len(), "mimeType": "", "text": body},
        },
        "cache": {},
        "timings": {"send": 0, "wait": time, "receive": 0},
        "_caller": entry.caller,
        "_face": entry.face,
        "_fault": entry.fault,
    })
}
