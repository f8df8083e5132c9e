//! Waiting as told, and not for ever.

use super::{Finding, repetitions};
use crate::journal::Entry;

pub fn retry_after(entries: &[Entry], tolerance_ms: u64) -> Finding {
    let told =
        |entry: &&Entry| matches!(entry.status(), Some(429 | 503)) && wait_ms(entry).is_some();
    let limited: Vec<_> = entries.iter().filter(told).collect();
    for first in &limited {
        let next = entries.iter().find(|entry| {
            entry.n > first.n && entry.name() == first.name() && entry.caller == first.caller
        });
        if let (Some(wait), Some(next)) = (wait_ms(first), next) {
            let waited = next.at_ms.saturating_sub(first.at_ms);
            if waited + tolerance_ms < wait {
                return Finding::fail(
                    format!("waited {waited} ms of {wait} ms"),
                    vec![first.n, next.n],
                );
            }
        }
    }
    if limited.is_empty() {
        Finding::nothing("no Retry-After was answered")
    } else {
        Finding::pass(
            "Retry-After was kept",
            limited.iter().map(|entry| entry.n).collect(),
        )
    }
}

/// The wait that a reply asks for. `RateLimit-Reset` has the seconds that a Retry-After with a date stands for.
fn wait_ms(entry: &Entry) -> Option<u64> {
    let reply = entry.reply.as_ref()?;
    let header = |wanted: &str| {
        reply
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let after = header("retry-after")?;
    let seconds: u64 = after
        .parse()
        .ok()
        .or_else(|| header("ratelimit-reset")?.parse().ok())?;
    seconds.checked_mul(1000)
}

pub fn hang(entries: &[Entry], max_wait_ms: u64, max_attempts: usize) -> Finding {
    let mut seen = Vec::new();
    for group in repetitions(entries) {
        let hung: Vec<_> = group
            .into_iter()
            .filter(|entry| entry.fault.as_deref() == Some("hang"))
            .collect();
        for entry in &hung {
            let waited = entry.end.map(|end| end.at_ms.saturating_sub(entry.at_ms));
            if waited.is_none_or(|waited| waited > max_wait_ms) {
                let time = waited.map_or("until the end".to_owned(), |ms| format!("{ms} ms"));
                return Finding::fail(format!("waited {time} for an answer"), vec![entry.n]);
            }
        }
        if hung.len() > max_attempts {
            return Finding::fail(
                format!("{} attempts at a call without an answer", hung.len()),
                hung.iter().map(|entry| entry.n).collect(),
            );
        }
        seen.extend(hung.iter().map(|entry| entry.n));
    }
    if seen.is_empty() {
        Finding::nothing("nothing hung")
    } else {
        Finding::pass("given up in time", seen)
    }
}
