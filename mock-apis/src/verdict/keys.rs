//! Idempotency keys of what is not idempotent.

use super::{Finding, repetitions};
use crate::journal::Entry;

fn key(entry: &Entry) -> Option<&String> {
    entry.request.headers.get("idempotency-key")
}

/// Same POST or PATCH requests, each sent more than once, after an attempt whose outcome the client cannot know.
fn repeated(entries: &[Entry]) -> Vec<Vec<&Entry>> {
    let mut groups = repetitions(entries);
    groups.retain(|group| {
        matches!(group[0].request.method.as_str(), "POST" | "PATCH") && group.len() > 1
    });
    // A 429 or a 4xx has done nothing: to repeat after it is harmless.
    groups.retain(|group| {
        group[..group.len() - 1].iter().any(|entry| {
            entry
                .status()
                .is_none_or(|status| !(400..500).contains(&status))
        })
    });
    groups
}

fn numbers(group: &[&Entry]) -> Vec<u64> {
    group.iter().map(|entry| entry.n).collect()
}

pub fn no_repeat(entries: &[Entry]) -> Finding {
    let groups = repeated(entries);
    if let Some(group) = groups
        .iter()
        .find(|group| group.iter().any(|entry| key(entry).is_none()))
    {
        return Finding::fail(
            "a call that is not idempotent was repeated without a key",
            numbers(group),
        );
    }
    match groups.first() {
        Some(group) => Finding::pass("repeated with a key", numbers(group)),
        None if entries.is_empty() => Finding::nothing("nothing was called"),
        None => Finding::pass("nothing that is not idempotent was repeated", vec![]),
    }
}

pub fn same_key(entries: &[Entry]) -> Finding {
    let groups: Vec<_> = repeated(entries)
        .into_iter()
        .filter(|group| group.iter().all(|entry| key(entry).is_some()))
        .collect();
    if let Some(group) = groups
        .iter()
        .find(|group| group.iter().any(|entry| key(entry) != key(group[0])))
    {
        return Finding::fail("the same request had another key", numbers(group));
    }
    groups.first().map_or_else(
        || Finding::nothing("no request with a key was repeated"),
        |group| Finding::pass("the key stayed the same", numbers(group)),
    )
}
