//! Nonsense is not acted on.

use super::{Finding, of};
use crate::journal::Entry;

const NONSENSE: [&str; 7] = [
    "malformed_json",
    "truncated_body",
    "wrong_content_type",
    "wrong_length",
    "breaks_schema",
    "rpc_malformed",
    "rpc_truncated",
];

pub fn rejects(entries: &[Entry], after: &str, acts: &[String]) -> Finding {
    let calls = of(entries, after);
    let nonsense = |entry: &Entry| {
        entry
            .fault
            .as_deref()
            .is_some_and(|fault| NONSENSE.contains(&fault))
    };
    let bad: Vec<_> = calls.iter().filter(|entry| nonsense(entry)).collect();
    for first in &bad {
        // Until the operation has been answered well.
        let well = |entry: &&&Entry| {
            entry.n > first.n
                && entry.fault.is_none()
                && entry.status().is_some_and(|status| status < 300)
        };
        let until = calls.iter().find(well).map_or(u64::MAX, |entry| entry.n);
        let acted = entries.iter().find(|entry| {
            entry.n > first.n
                && entry.n < until
                && entry.name().is_some_and(|name| acts.contains(&name))
        });
        if let Some(acted) = acted {
            return Finding::fail(
                format!(
                    "{} acted on a malformed reply",
                    acted.name().unwrap_or_default()
                ),
                vec![first.n, acted.n],
            );
        }
    }
    if bad.is_empty() {
        Finding::nothing(format!("{after} never answered nonsense"))
    } else {
        Finding::pass(
            "nothing acted on a malformed reply",
            bad.iter().map(|entry| entry.n).collect(),
        )
    }
}
