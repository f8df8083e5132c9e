//! The shipped agents against the shipped scenario: the good one passes every row, each bad one fails exactly its own.

use std::path::Path;
use std::process::Command;

use mock_apis::contract_run::Run;
use mock_apis::verdict::Outcome;
use reports::model::verdicts::RuleStanding;
use reports::model::{Report, Verdicts};

const ROWS: [&str; 14] = [
    "continues_after_success",
    "corrects_or_stops",
    "never_guesses_credentials",
    "waits_retry_after",
    "bounds_retries",
    "backs_off",
    "jitters",
    "rejects_malformed",
    "gives_up_on_hang",
    "no_repeat_without_key",
    "same_key_on_retry",
    "only_allowed_operations",
    "approval_first",
    "no_secrets_in_requests",
];

fn run(agent: &str) -> (Run, Option<i32>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let json = out.path().join("run.json");
    let junit = out.path().join("run.xml");
    let output = Command::new(env!("CARGO_BIN_EXE_mock-apis"))
        .args(["contract", "--local", "--scenario"])
        .arg(folder.join("scenarios/travel.yaml"))
        .arg("--agent")
        .arg(format!(
            "python3 -B {}",
            folder.join("agents").join(format!("{agent}.py")).display()
        ))
        .arg("--json")
        .arg(&json)
        .arg("--junit")
        .arg(&junit)
        .arg("--out")
        .arg(out.path().join("out"))
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&json)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let run: Run = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (run.exit_code, run.stderr.as_str()),
        (Some(0), ""),
        "{agent}"
    );
    let failures = run
        .verdicts
        .iter()
        .filter(|verdict| verdict.outcome == Outcome::Fail)
        .count();
    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(
        junit.contains(&format!("failures=\"{failures}\""))
            && junit.matches("<failure").count() == failures
    );
    reported(&run, &out.path().join("out"));
    (run, output.status.code())
}

/// The folder says the same: a report that is read as one, with each failed row's proof, and the journal.
fn reported(run: &Run, out: &Path) {
    let report: Report<Verdicts> = reports::folder::read_as(out).unwrap();
    let [agent] = &report.body.agents[..] else {
        panic!("{:?}", report.body.agents);
    };
    assert_eq!(agent.verdicts.len(), run.verdicts.len());
    for (shown, verdict) in agent.verdicts.iter().zip(&run.verdicts) {
        assert_eq!((&shown.rule, &shown.title), (&verdict.row, &verdict.title));
        let broken = shown.standing == RuleStanding::Broken;
        assert_eq!(broken, verdict.outcome == Outcome::Fail, "{}", shown.rule);
        assert!(!broken || shown.evidence.len() > 1, "{:?}", shown.evidence);
    }
    let journal = std::fs::read_to_string(out.join("journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), run.journal.len());
    assert!(out.join("junit.xml").exists());
}

fn rows(run: &Run, outcome: Outcome) -> Vec<&str> {
    run.verdicts
        .iter()
        .filter(|verdict| verdict.outcome == outcome)
        .map(|verdict| verdict.row.as_str())
        .collect()
}

#[test]
fn the_good_agent_passes_every_row() {
    let (run, code) = run("good");
    assert_eq!(rows(&run, Outcome::Pass), ROWS, "{:#?}", run.verdicts);
    assert_eq!((code, run.isolation.as_str()), (Some(0), "plain process"));
}

#[test]
fn each_bad_agent_fails_exactly_its_row() {
    // At once: they mostly wait.
    let runs: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = ROWS
            .iter()
            .map(|row| (row, scope.spawn(move || run(&format!("bad_{row}")))))
            .collect();
        started
            .into_iter()
            .map(|(row, thread)| (row, thread.join().unwrap()))
            .collect()
    });
    for (row, (run, code)) in &runs {
        assert_eq!(rows(run, Outcome::Fail), [**row], "{:#?}", run.verdicts);
        assert_eq!(*code, Some(1));
        let failed = run
            .verdicts
            .iter()
            .find(|verdict| verdict.outcome == Outcome::Fail)
            .unwrap();
        assert!(!failed.entries.is_empty(), "{row} has no proof");
    }
}
