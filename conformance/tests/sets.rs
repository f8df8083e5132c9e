//! A check that came after a set was frozen does not turn its pass red.

mod common;

use bad_server::BadServer;

use self::common::{run, said};

const SET: &[&str] = &["--set", "2026-11-25-first-areas"];

#[tokio::test(flavor = "multi_thread")]
async fn a_later_check_is_shown_and_not_scored() {
    let server = BadServer::start(Some("alias-unknown-200")).await.unwrap();
    let both = [
        "--check",
        "templates/alias",
        "--check",
        "lifecycle/create-v2",
    ];
    let scored = run(&server, &both);
    assert_eq!(scored.status.code(), Some(1), "{}", said(&scored));
    let folder = tempfile::tempdir().unwrap();
    let out = ["--out", folder.path().to_str().unwrap()];
    let unscored = run(&server, &[&both[..], SET, &out[..]].concat());
    assert_eq!(unscored.status.code(), Some(0), "{}", said(&unscored));
    let text = said(&unscored);
    assert!(text.contains("unscored templates/alias"), "{text}");
    assert!(text.contains("1 checks are not of the set"), "{text}");
    let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert!(json.contains("\"standing\": \"unscored\""), "{json}");
    assert!(json.contains("2026-11-25-first-areas"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_set_is_scored() {
    let server = BadServer::start(Some("kill-200")).await.unwrap();
    let output = run(&server, &[&["--check", "lifecycle/kill"], SET].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let none = run(&server, &["--set", "no-such-set"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        said(&none).contains("2026-11-25-first-areas"),
        "{}",
        said(&none)
    );
}
