//! High risk needs an approval first.

use serde_json::Value;

use super::{Finding, of};
use crate::journal::Entry;

pub fn first(
    entries: &[Entry],
    operation: &str,
    header: &str,
    issued_by: &str,
    pointer: &str,
) -> Finding {
    let calls = of(entries, operation);
    for call in &calls {
        let shown = call.request.headers.get(&header.to_ascii_lowercase());
        let given = of(entries, issued_by).into_iter().any(|issue| {
            let reply = issue.reply.as_ref().filter(|reply| reply.status < 300);
            let body = reply.and_then(|reply| serde_json::from_str::<Value>(&reply.body).ok());
            let token = body
                .as_ref()
                .and_then(|body| body.pointer(pointer)?.as_str());
            issue.n < call.n
                && issue.caller == call.caller
                && token.is_some()
                && token == shown.map(String::as_str)
        });
        if !given {
            return Finding::fail(
                format!("{operation} without a token that {issued_by} gave out before"),
                vec![call.n],
            );
        }
    }
    if calls.is_empty() {
        Finding::nothing(format!("{operation} was not called"))
    } else {
        Finding::pass(
            "each call had its approval",
            calls.iter().map(|call| call.n).collect(),
        )
    }
}
