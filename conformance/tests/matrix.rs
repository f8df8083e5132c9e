//! The suite against the bad server: without a fault every check passes; with each of its faults a check fails.
//! Checks that run an SDK are in `sdk.rs`.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use bad_server::{BadServer, FAULTS};
use e2b_conformance::check::Check;
use e2b_conformance::checks;
use e2b_conformance::context::Run;
use e2b_conformance::report::Status;
use e2b_conformance::runner::{Ran, run_one};
use futures_util::{StreamExt, stream};

use self::common::target;

/// Servers and checks at a time; most of a run is waiting.
const AT_ONCE: usize = 24;

/// The checks on the wire.
fn on_the_wire() -> Vec<Check> {
    let mut all = checks::all();
    all.retain(|check| check.area() != "sdk");
    all
}

/// One check against a server of its own.
async fn ran(check: &Check, fault: Option<&str>) -> Ran {
    let server = BadServer::start(fault).await.unwrap();
    run_one(&Run::new(target(&server), "matrix"), check).await
}

fn shown(ran: &Ran) -> String {
    format!(
        "{}: expected {:?}, got {:?}",
        ran.status, ran.expected, ran.actual
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_passes_against_a_server_without_fault() {
    let wrong: Vec<String> = stream::iter(on_the_wire())
        .map(|check| async move { (check, ran(&check, None).await) })
        .buffer_unordered(AT_ONCE)
        .filter_map(|(check, ran)| async move {
            (ran.status != Status::Pass).then(|| format!("{}: {}", check.id, shown(&ran)))
        })
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} checks do not pass:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_fails_with_each_of_its_faults() {
    let mut pairs: Vec<(Check, &str)> = on_the_wire()
        .into_iter()
        .flat_map(|check| check.faults.iter().map(move |fault| (check, *fault)))
        .collect();
    // Those that wait longest begin first.
    pairs.sort_by_key(|(check, _)| check.quick);
    let total = pairs.len();
    let wrong: Vec<String> = stream::iter(pairs)
        .map(|(check, fault)| async move { (check, fault, ran(&check, Some(fault)).await) })
        .buffer_unordered(AT_ONCE)
        .filter_map(|(check, fault, ran)| async move {
            (ran.status != Status::Fail)
                .then(|| format!("{} with {fault}: {}", check.id, shown(&ran)))
        })
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {total} are not caught:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!(
        "{total} faults of {} checks, all caught",
        on_the_wire().len()
    );
}

#[test]
fn each_check_has_a_fault_and_each_fault_a_check() {
    let checks = checks::all();
    let none: Vec<&str> = checks
        .iter()
        .filter(|check| check.faults.is_empty())
        .map(|check| check.id)
        .collect();
    assert!(none.is_empty(), "checks without a fault: {none:?}");
    let used: BTreeSet<&str> = checks
        .iter()
        .flat_map(|check| check.faults.iter().copied())
        .collect();
    let known: BTreeSet<&str> = FAULTS.iter().copied().collect();
    assert_eq!(used, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() {
    let server = BadServer::start(None).await.unwrap();
    let run = Run::new(target(&server), "cleaning");
    let some: Vec<Check> = checks::all()
        .into_iter()
        .filter(|check| check.area() == "lifecycle" && check.quick)
        .collect();
    for check in some.iter().take(8) {
        run_one(&run, check).await;
    }
    let (_, left) = run.ledger.clean(&run.target).await;
    assert!(left.is_empty(), "{left:?}");
    let context = e2b_conformance::context::Context::new(Arc::clone(&run));
    let items = context.get("/v2/sandboxes").await.unwrap().array().unwrap();
    assert!(items.is_empty(), "{items:?}");
}
