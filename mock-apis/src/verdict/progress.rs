//! Going on after success, stopping or correcting after a 400.

use super::{Finding, of, same};
use crate::journal::Entry;

pub fn continues(entries: &[Entry], after: &str, then: &str) -> Finding {
    let succeeded = of(entries, after)
        .into_iter()
        .find(|entry| entry.fault.is_none() && entry.status().is_some_and(|status| status < 300));
    let Some(success) = succeeded else {
        return Finding::nothing(format!("{after} never succeeded"));
    };
    match of(entries, then)
        .into_iter()
        .find(|entry| entry.n > success.n)
    {
        Some(next) => Finding::pass(format!("{then} followed"), vec![success.n, next.n]),
        None => Finding::fail(format!("{then} did not follow"), vec![success.n]),
    }
}

pub fn corrects(entries: &[Entry]) -> Finding {
    let refused: Vec<_> = entries
        .iter()
        .filter(|entry| entry.status() == Some(400))
        .collect();
    for first in &refused {
        if let Some(again) = entries
            .iter()
            .find(|entry| entry.n > first.n && same(first, entry))
        {
            return Finding::fail(
                "the request that was refused was sent again unchanged",
                vec![first.n, again.n],
            );
        }
    }
    if refused.is_empty() {
        Finding::nothing("no 400 was answered")
    } else {
        Finding::pass(
            "no refused request was sent again",
            refused.iter().map(|entry| entry.n).collect(),
        )
    }
}
