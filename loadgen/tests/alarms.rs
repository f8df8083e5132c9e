//! How often does a comparison cry wolf, and how often does it sleep? Servers whose times are known, compared again and again.

mod common;

use std::time::Duration;

use common::{report, run, stub, told};
use loadgen::stub::{Delay, Script, Stub};
use reports::model::load::{Comparison, Verdict};

/// Comparisons of each kind.
const REPEATS: u64 = 20;
/// Beyond so many alarms in [`REPEATS`] at the level of 1 % there is a cause: Binomial(20, 0.01) is above 2 once in a thousand.
const ALARMS: usize = 2;

fn build(median: Duration, seed: u64) -> Stub {
    stub(Script {
        create: Delay::LogNormal(median, 0.2),
        seed,
        ..Script::default()
    })
}

/// Compares with the level and floor that a person gets who asks for none.
fn compared(a: &Stub, b: &Stub, seed: u64) -> Comparison {
    let folder = tempfile::tempdir().unwrap();
    let words = format!(
        "compare {} {} --rounds 20 --per-round 5 --warm-up 1 --quiet --seed {seed}",
        a.url(),
        b.url()
    );
    let output = run("http://127.0.0.1:1", folder.path(), &words);
    let found = report(folder.path()).body.comparisons.remove(0);
    let worse = i32::from(found.finding.verdict == Verdict::Worse);
    assert_eq!(told(&output).0, worse, "{}", told(&output).1);
    found
}

fn told_of(kind: &str, found: &[Comparison]) -> usize {
    let alarms = found
        .iter()
        .filter(|one| one.finding.verdict != Verdict::Same)
        .count();
    println!("{kind}: {alarms} of {} with a verdict", found.len());
    for one in found {
        println!(
            "  P50 ratio {:.3}  p {:.4}  {:?}",
            one.ratios[0].value, one.p_value, one.finding.verdict
        );
    }
    alarms
}

#[test]
#[ignore = "takes minutes: cargo test --release -p loadgen --test alarms -- --ignored --nocapture"]
fn the_same_server_twice_raises_no_more_alarms_than_stated_and_a_fifth_more_is_always_found() {
    let ms = Duration::from_millis;
    // One server on both sides: nothing but chance differs.
    let a = build(ms(20), 1);
    let same: Vec<Comparison> = (0..REPEATS).map(|seed| compared(&a, &a, seed)).collect();
    let slower = build(ms(24), 2);
    let planted: Vec<Comparison> = (0..REPEATS)
        .map(|seed| compared(&a, &slower, seed))
        .collect();
    let alarms = told_of("the same server", &same);
    told_of("a fifth slower", &planted);
    assert!(
        alarms <= ALARMS,
        "{alarms} alarms of {REPEATS} without a cause"
    );
    let found = planted
        .iter()
        .filter(|one| one.finding.verdict == Verdict::Worse)
        .count();
    assert_eq!(found, planted.len(), "a fifth more was not always found");
}
