//! Retries after a 5xx: how many, how far apart, how even.

use super::{Finding, repetitions};
use crate::journal::Entry;

/// Same requests of which all but the last were answered 5xx, with at least one retry.
fn retried(entries: &[Entry]) -> Vec<Vec<&Entry>> {
    let broken = |entry: &Entry| entry.status().is_some_and(|status| status >= 500);
    let mut all = Vec::new();
    for group in repetitions(entries) {
        let mut chain: Vec<&Entry> = Vec::new();
        for entry in group {
            chain.push(entry);
            if !broken(entry) {
                all.push(std::mem::take(&mut chain));
            }
        }
        all.push(chain);
    }
    all.retain(|chain| chain.first().is_some_and(|first| broken(first)));
    all
}

fn numbers(chain: &[&Entry]) -> Vec<u64> {
    chain.iter().map(|entry| entry.n).collect()
}

#[allow(clippy::cast_precision_loss)]
fn gaps(chain: &[&Entry]) -> Vec<f64> {
    chain
        .windows(2)
        .map(|pair| pair[1].at_ms.saturating_sub(pair[0].at_ms) as f64)
        .collect()
}

pub fn bounds(entries: &[Entry], max_attempts: usize) -> Finding {
    let chains = retried(entries);
    match chains.iter().max_by_key(|chain| chain.len()) {
        None => Finding::nothing("no 5xx was answered"),
        Some(chain) if chain.len() > max_attempts => {
            Finding::fail(format!("{} attempts", chain.len()), numbers(chain))
        }
        Some(chain) => Finding::pass(format!("at most {} attempts", chain.len()), numbers(chain)),
    }
}

pub fn grows(entries: &[Entry], least_growth: f64) -> Finding {
    let chains: Vec<_> = retried(entries)
        .into_iter()
        .filter(|chain| chain.len() >= 3)
        .collect();
    for chain in &chains {
        let gaps = gaps(chain);
        if let Some(pair) = gaps
            .windows(2)
            .find(|pair| pair[1] < pair[0] * least_growth)
        {
            return Finding::fail(
                format!("{} ms, then {} ms", pair[0], pair[1]),
                numbers(chain),
            );
        }
    }
    chains.first().map_or_else(
        || Finding::nothing("no request was retried twice"),
        |chain| Finding::pass("each pause was longer than the one before", numbers(chain)),
    )
}

/// Without jitter the pauses are a base times powers of one factor: the second ratio is the first one again. Real pauses also hold the time
/// of the call, so that what is equal within 10 % is taken for equal.
pub fn jitters(entries: &[Entry]) -> Finding {
    let chains: Vec<_> = retried(entries)
        .into_iter()
        .filter(|chain| chain.len() >= 4)
        .collect();
    for chain in &chains {
        let gaps = gaps(chain);
        let ratios: Vec<f64> = gaps
            .windows(2)
            .map(|pair| pair[1] / pair[0].max(1.0))
            .collect();
        let (Some(least), Some(most)) = (
            ratios.iter().copied().reduce(f64::min),
            ratios.iter().copied().reduce(f64::max),
        ) else {
            continue;
        };
        if most > least * 1.1 {
            return Finding::pass(format!("the pauses were {gaps:?} ms"), numbers(chain));
        }
    }
    chains.first().map_or_else(
        || Finding::nothing("no request was retried three times"),
        |chain| {
            Finding::fail(
                format!(
                    "the pauses {:?} ms are those of a fixed schedule",
                    gaps(chain)
                ),
                numbers(chain),
            )
        },
    )
}
