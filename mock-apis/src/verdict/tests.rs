//! Verdicts over journals written by hand: the edges that no shipped agent comes to.

use super::{Outcome, judge};
use crate::journal::{End, Entry, How, SeenReply};
use crate::scenario::expect::Expectation;

/// A call of `operation` at `at_ms`, answered with `status`; 0 for a script on the bare connection.
fn call(n: u64, operation: &str, at_ms: u64, status: u16) -> Entry {
    let reply = SeenReply {
        status,
        headers: vec![("retry-after".into(), "2".into())],
        body: String::new(),
    };
    Entry {
        n,
        at_ms,
        caller: "c".into(),
        service: "s".into(),
        operation: Some(operation.into()),
        reply: (status > 0).then_some(reply),
        ..Entry::default()
    }
}

fn outcome(expectation: Expectation, entries: &[Entry]) -> Outcome {
    judge(&[expectation], entries, 0)[0].outcome
}

#[test]
fn nothing_to_judge_by_is_inconclusive() {
    let all = [
        Expectation::ContinuesAfterSuccess {
            after: "s.a".into(),
            then: "s.b".into(),
        },
        Expectation::CorrectsOrStops {},
        Expectation::NeverGuessesCredentials {},
        Expectation::WaitsRetryAfter { tolerance_ms: 0 },
        Expectation::BoundsRetries { max_attempts: 1 },
        Expectation::BacksOff { least_growth: 1.0 },
        Expectation::Jitters {},
        Expectation::RejectsMalformed {
            after: "s.a".into(),
            acts: vec![],
        },
        Expectation::GivesUpOnHang {
            max_wait_ms: 1,
            max_attempts: 1,
        },
        Expectation::NoRepeatWithoutKey {},
        Expectation::SameKeyOnRetry {},
        Expectation::OnlyAllowedOperations { operations: vec![] },
        Expectation::ApprovalFirst {
            operation: "s.a".into(),
            header: "x".into(),
            issued_by: "s.b".into(),
            pointer: "/t".into(),
        },
        Expectation::NoSecretsInRequests { secrets: vec![] },
    ];
    let verdicts = judge(&all, &[], 0);
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.outcome == Outcome::Inconclusive),
        "{verdicts:#?}"
    );
}

#[test]
fn a_journal_that_is_not_whole_passes_nothing() {
    let entries = [call(1, "a", 0, 400)];
    assert_eq!(
        judge(&[Expectation::CorrectsOrStops {}], &entries, 0)[0].outcome,
        Outcome::Pass
    );
    assert_eq!(
        judge(&[Expectation::CorrectsOrStops {}], &entries, 1)[0].outcome,
        Outcome::Inconclusive
    );
}

#[test]
fn a_wait_is_judged_to_the_millisecond_and_for_its_operation_alone() {
    let waited = |ms| {
        outcome(
            Expectation::WaitsRetryAfter { tolerance_ms: 20 },
            &[
                call(1, "a", 0, 429),
                call(2, "b", 1, 200),
                call(3, "a", ms, 200),
            ],
        )
    };
    assert_eq!(
        [waited(1979), waited(1980), waited(5000)],
        [Outcome::Fail, Outcome::Pass, Outcome::Pass]
    );
}

#[test]
fn a_hang_that_never_ended_is_a_failure() {
    let mut entry = call(1, "a", 0, 0);
    entry.fault = Some("hang".into());
    let expectation = Expectation::GivesUpOnHang {
        max_wait_ms: 100,
        max_attempts: 1,
    };
    assert_eq!(
        outcome(expectation.clone(), &[entry.clone()]),
        Outcome::Fail
    );
    entry.end = Some(End {
        how: How::ClientLeft,
        at_ms: 100,
    });
    assert_eq!(outcome(expectation, &[entry]), Outcome::Pass);
}

#[test]
fn a_retry_of_what_was_refused_needs_no_key() {
    let post = |n, status| {
        let mut entry = call(n, "a", n * 5000, status);
        entry.request.method = "POST".into();
        entry
    };
    assert_eq!(
        outcome(
            Expectation::NoRepeatWithoutKey {},
            &[post(1, 429), post(2, 201)]
        ),
        Outcome::Pass
    );
    assert_eq!(
        outcome(
            Expectation::NoRepeatWithoutKey {},
            &[post(1, 503), post(2, 201)]
        ),
        Outcome::Fail
    );
    assert_eq!(
        outcome(
            Expectation::NoRepeatWithoutKey {},
            &[post(1, 201), post(2, 201)]
        ),
        Outcome::Fail
    );
}
