//! SDK checks against the bad server.
//!
//! The current Python SDK is tried with each fault of its checks, all in one process that imports it once. The whole matrix of
//! versions passes without a fault; that takes minutes, so it is ignored unless asked for. Where an SDK
//! cannot be installed the test says why, and fails only where `E2B_CONFORMANCE_SDKS=required`, which CI sets.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bad_server::BadServer;
use e2b_conformance::check::Check;
use e2b_conformance::context::Run;
use e2b_conformance::report::Status;
use e2b_conformance::runner::run_one;
use e2b_conformance::sdk::pins::{self, Pin};
use e2b_conformance::sdk::scenario::Job;
use e2b_conformance::sdk::steps::{self, STEPS};
use e2b_conformance::sdk::{self, Shared, settings};
use futures_util::{StreamExt, stream};

use self::common::target;

/// Whether the pin can be installed here; says why not.
async fn is_there(shared: &Shared, pin: &'static Pin) -> bool {
    match shared.project(pin).await {
        Ok(_) => true,
        Err(error) => {
            let required =
                std::env::var("E2B_CONFORMANCE_SDKS").is_ok_and(|value| value == "required");
            assert!(!required, "{}: {error}", pin.name);
            println!("NOT TESTED with {}: {error}", pin.name);
            false
        }
    }
}

fn job(server: &BadServer, pin: &Pin, topic: &'static str, steps: Option<Vec<String>>) -> Job {
    let mut env = settings::common(&target(server), pin, "matrix");
    for name in ["E2B_API_URL", "E2B_SANDBOX_URL"] {
        env.insert(name.to_owned(), server.url());
    }
    // What a fault keeps from coming is not waited for as long as what is slow.
    env.insert("E2B_CONFORMANCE_PATIENCE".to_owned(), "0.4".to_owned());
    Job { env, topic, steps }
}

/// Each fault of the current SDK's checks, in a few processes.
async fn caught(pin: &'static Pin) {
    let shared = Shared::default();
    if !is_there(&shared, pin).await {
        return;
    }
    let mut wanted: BTreeMap<(&str, &'static str), Vec<String>> = BTreeMap::new();
    for step in STEPS.iter().filter(|step| step.is_of(pin)) {
        for fault in step.faults_with(pin) {
            wanted
                .entry((fault, step.topic))
                .or_default()
                .push(step.id());
        }
    }
    let total: usize = wanted.values().map(Vec::len).sum();
    // Dealt out in turn: neighbours wait for the same thing, and one process should not have all of them.
    let mut pieces = vec![Vec::new(); 6];
    for (index, one) in wanted.into_iter().enumerate() {
        pieces[index % 6].push(one);
    }
    let shared = &shared;
    let wrong: Vec<String> = stream::iter(pieces)
        .map(|piece| async move {
            let mut servers = Vec::new();
            let mut jobs = Vec::new();
            for ((fault, topic), ids) in &piece {
                let server = BadServer::start(Some(fault)).await.unwrap();
                jobs.push(job(&server, pin, topic, Some(ids.clone())));
                servers.push(server);
            }
            let played = sdk::batch(shared, pin, &jobs, Duration::from_secs(240))
                .await
                .unwrap();
            let mut wrong = Vec::new();
            for (index, ((fault, _), ids)) in piece.iter().enumerate() {
                for id in ids {
                    let line = sdk::line_of(&played, index, id);
                    if line.is_none_or(|line| line.ok != Some(false)) {
                        wrong.push(format!("{id} with {fault}: {line:?} {}", played.stderr));
                    }
                }
            }
            wrong
        })
        .buffer_unordered(6)
        .concat()
        .await;
    assert!(
        wrong.is_empty(),
        "{}: {} of {total} are not caught:\n{}",
        pin.name,
        wrong.len(),
        wrong.join("\n")
    );
    println!("{}: {total} pairs of step and fault, all caught", pin.name);
}

/// Every check of these pins, as a run does them.
async fn passes(pins: &[&'static Pin]) {
    let server = BadServer::start(None).await.unwrap();
    let run = Run::new(target(&server), "matrix");
    let mut checks: Vec<Check> = Vec::new();
    for pin in pins {
        if is_there(&run.sdk, pin).await {
            let own = |check: &Check| steps::pin_of(check.id) == Some(pin.name.as_str());
            checks.extend(steps::checks().into_iter().filter(own));
        }
    }
    let wrong: Vec<String> = stream::iter(&checks)
        .map(|check| {
            let run = Arc::clone(&run);
            async move { (check, run_one(&run, check).await) }
        })
        .buffer_unordered(32)
        .filter_map(|(check, ran)| async move {
            (ran.status != Status::Pass).then(|| {
                format!(
                    "{}: {} {:?} {:?}",
                    check.id, ran.status, ran.expected, ran.actual
                )
            })
        })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} checks pass", checks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_sdks_work_with_a_server_without_fault() {
    let current = [pins::named("python-current"), pins::named("js-current")];
    let current: Vec<&'static Pin> = current.into_iter().flatten().collect();
    assert_eq!(current.len(), 2);
    passes(&current).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_caught_by_the_current_python_sdk() {
    caught(pins::named("python-current").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "installs eight SDKs and takes minutes: cargo test -p e2b-conformance --test sdk -- --ignored"]
async fn the_whole_matrix_of_versions_works_with_a_server_without_fault() {
    passes(&pins::all().iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test -p e2b-conformance --test sdk -- --ignored"]
async fn each_fault_is_caught_by_the_current_javascript_sdk() {
    caught(pins::named("js-current").unwrap()).await;
}
