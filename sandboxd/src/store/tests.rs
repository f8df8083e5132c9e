//! What is stored comes back, also after the file was opened again.

use super::captures::{Kind, Label, SavedCapture};
use super::facts::{FactsV1, Known, SavedFacts, SavedPolicy};
use super::idempotency::Begin;
use super::keys::ApiKey;
use super::sandboxes::{SavedPhase, SavedSandbox, SavedSnapshot};
use super::{Store, StoreError};
use crate::ids::{SandboxId, SnapshotId};
use crate::lifecycle::sandbox::{AutoCheckpoint, Origin};
use crate::lifecycle::state::{OnTimeout, Span};
use crate::machine::process::ProcessIdentity;
use crate::moment::Moment;

fn at(micros: i64) -> Moment {
    Moment::from_micros(micros)
}

fn id(text: &str) -> SandboxId {
    SandboxId::parse(text).unwrap()
}

fn snapshot_id(text: &str) -> SnapshotId {
    SnapshotId::parse(text).unwrap()
}

/// What a sandbox is that uses everything that can be saved.
fn known() -> Known {
    let mut known = SavedFacts::V1(facts()).known().unwrap();
    known.on_timeout = OnTimeout::Pause { memory: false };
    known.facts.env = [("A".to_owned(), "1".to_owned())].into();
    known.facts.auto_resume = true;
    known.facts.origin = Some(Origin {
        snapshot: snapshot_id("sb"),
        family: snapshot_id("sa"),
        name: Some("mine".to_owned()),
    });
    known.facts.auto_checkpoint = Some(AutoCheckpoint {
        every_commands: 3,
        keep: 2,
    });
    known
}

fn facts() -> FactsV1 {
    FactsV1 {
        template_id: "base".to_owned(),
        alias: Some("base".to_owned()),
        vcpus: 2,
        memory_mib: 512,
        disk_mib: 10_240,
        timeout: 300,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        access_token: Some("token".to_owned()),
        traffic_token: None,
        mask_request_host: None,
        allow_internet_access: Some(false),
        network: Some(serde_json::json!({"allowOut": ["1.1.1.1"]})),
        policy: SavedPolicy {
            allow_by_default: false,
            allow: vec!["1.1.1.1/32".to_owned()],
            deny: vec![],
        },
    }
}

#[tokio::test]
async fn a_row_follows_its_sandbox_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert_sandbox(id("ia"), &known()).await.unwrap();
    store.set_slot(id("ia"), 7).await.unwrap();
    let process = ProcessIdentity {
        pid: 42,
        start_time: 4_711,
    };
    store
        .mark_running(id("ia"), "base".to_owned(), process, at(1_000_001))
        .await
        .unwrap();
    store.set_end(id("ia"), at(500)).await.unwrap();
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    let expected = SavedSandbox {
        id: id("ia"),
        phase: SavedPhase::Running,
        known: Some(known()),
        process: Some(process),
        slot: Some(7),
        span: Some(Span {
            started_at: at(1_000_001),
            since: at(1_000_001),
            end_at: at(500),
        }),
        snapshot: None,
    };
    assert_eq!(store.sandboxes().await.unwrap(), [expected]);
    let used = store.template_use().await.unwrap();
    assert_eq!(used["base"].spawn_count, 1);
    store.mark_stopping(id("ia")).await.unwrap();
    assert_eq!(
        store.sandboxes().await.unwrap()[0].phase,
        SavedPhase::Stopping
    );
    store.remove_sandbox(id("ia")).await.unwrap();
    assert!(store.sandboxes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_late_report_does_not_bring_a_stopping_row_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.insert_sandbox(id("ia"), &known()).await.unwrap();
    store.mark_stopping(id("ia")).await.unwrap();
    let process = ProcessIdentity {
        pid: 1,
        start_time: 1,
    };
    store
        .mark_running(id("ia"), "base".to_owned(), process, at(1_000_001))
        .await
        .unwrap();
    assert_eq!(
        store.sandboxes().await.unwrap()[0].phase,
        SavedPhase::Stopping
    );
}

#[test]
fn the_saved_form_of_the_facts_does_not_change_by_accident() {
    insta::assert_json_snapshot!(SavedFacts::of(&known()));
    // As an earlier daemon wrote it.
    insta::assert_json_snapshot!("first_version", SavedFacts::V1(facts()));
}

#[tokio::test]
async fn a_row_that_is_paused_and_resumed_names_its_snapshot_until_the_machine_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let process = |pid| ProcessIdentity { pid, start_time: 1 };
    let row = async || store.sandboxes().await.unwrap().remove(0);
    store.insert_sandbox(id("ia"), &known()).await.unwrap();
    store
        .mark_running(id("ia"), "base".to_owned(), process(1), at(10))
        .await
        .unwrap();
    store.set_end(id("ia"), at(100)).await.unwrap();
    let saved = SavedSnapshot {
        id: snapshot_id("sp"),
        memory: false,
    };
    let pausing = SavedPhase::Pausing;
    store
        .begin_work(id("ia"), pausing, Some(saved.clone()))
        .await
        .unwrap();
    assert_eq!(row().await.snapshot, Some(saved.clone()));
    store.end_work(id("ia")).await.unwrap();
    assert_eq!(row().await.snapshot, None);
    // A report of the pause that ended comes too late.
    store.mark_paused(id("ia"), at(11)).await.unwrap();
    assert_eq!(row().await.phase, SavedPhase::Running);

    store
        .begin_work(id("ia"), pausing, Some(saved.clone()))
        .await
        .unwrap();
    store.mark_paused(id("ia"), at(20)).await.unwrap();
    let paused = row().await;
    assert_eq!(paused.phase, SavedPhase::Paused);
    assert_eq!(paused.span.unwrap().end_at, at(20));
    store.begin_resume(id("ia")).await.unwrap();
    assert_eq!(row().await.process, None);
    store.back_to_paused(id("ia")).await.unwrap();
    assert_eq!(row().await.phase, SavedPhase::Paused);
    store.begin_resume(id("ia")).await.unwrap();
    store
        .mark_resumed(id("ia"), process(2), at(30), at(90))
        .await
        .unwrap();
    let resumed = row().await;
    assert_eq!(resumed.phase, SavedPhase::Running);
    assert_eq!(
        (resumed.process, resumed.snapshot),
        (Some(process(2)), None)
    );
    let span = Span {
        started_at: at(10),
        since: at(30),
        end_at: at(90),
    };
    assert_eq!(resumed.span, Some(span));
    store.mark_stopping(id("ia")).await.unwrap();
    store.begin_resume(id("ia")).await.unwrap();
    store.end_work(id("ia")).await.unwrap();
    assert_eq!(row().await.phase, SavedPhase::Stopping);
}

#[tokio::test]
async fn a_row_of_a_snapshot_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut named = SavedCapture {
        id: snapshot_id("s1"),
        kind: Kind::Named,
        sandbox: id("ia"),
        whole: false,
        memory: true,
        checkpoint: None,
        label: Some(Label {
            family: snapshot_id("s1"),
            name: Some("mine".to_owned()),
            tag: "default".to_owned(),
        }),
        known: Some(known()),
        created_at: at(5),
    };
    let checkpoint = SavedCapture {
        id: snapshot_id("s2"),
        kind: Kind::Checkpoint,
        checkpoint: Some("before".to_owned()),
        label: None,
        known: None,
        created_at: at(4),
        ..named.clone()
    };
    store.insert_snapshot(named.clone()).await.unwrap();
    store.insert_snapshot(checkpoint.clone()).await.unwrap();
    assert!(store.named_snapshots().await.unwrap().is_empty());
    store.mark_whole(snapshot_id("s1")).await.unwrap();
    named.whole = true;
    assert_eq!(store.named_snapshots().await.unwrap(), [named.clone()]);
    let all = [checkpoint.clone(), named];
    assert_eq!(store.snapshots().await.unwrap(), all);
    assert_eq!(store.snapshots_of(id("ia")).await.unwrap(), all);
    assert!(store.snapshots_of(id("ib")).await.unwrap().is_empty());
    store.remove_snapshot(snapshot_id("s1")).await.unwrap();
    assert_eq!(store.snapshots().await.unwrap(), [checkpoint]);
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(super::FILE);
    let db = rusqlite::Connection::open(&file).unwrap();
    db.execute_batch(super::schema::VERSIONS[0]).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    let json = serde_json::to_string(&SavedFacts::V1(facts())).unwrap();
    db.execute(
        "INSERT INTO sandboxes VALUES ('ia', 'running', ?, 42, 4711, 7, 10, 20)",
        [json],
    )
    .unwrap();
    drop(db);
    let store = Store::open(dir.path()).unwrap();
    let row = store.sandboxes().await.unwrap().remove(0);
    assert_eq!(row.phase, SavedPhase::Running);
    assert_eq!(row.known, SavedFacts::V1(facts()).known());
    let span = row.span.unwrap();
    assert_eq!((span.since, span.end_at), (at(10), at(20)));
}

#[tokio::test]
async fn keys_are_private_hashed_and_revocable() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mode = std::fs::metadata(dir.path().join(super::FILE)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let key = ApiKey {
        id: "k1".to_owned(),
        name: "test".to_owned(),
        hash: crate::ids::secret_hash("e2b_secret"),
        mask: "e2b_se…et".to_owned(),
        created_at: at(1),
        revoked_at: None,
    };
    store.add_key(key.clone()).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [key]);
    assert!(store.revoke_key("k1".to_owned(), at(2)).await.unwrap());
    assert!(!store.revoke_key("k1".to_owned(), at(3)).await.unwrap());
    assert!(!store.revoke_key("k2".to_owned(), at(3)).await.unwrap());
    assert_eq!(store.keys().await.unwrap()[0].revoked_at, Some(at(2)));
}

#[tokio::test]
async fn a_repeated_create_is_known_by_key_and_body() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let begin = |body: u8, now| {
        let store = store.clone();
        async move {
            store
                .begin("key".to_owned(), [body; 32], id("ia"), at(now))
                .await
                .unwrap()
        }
    };
    assert_eq!(begin(1, 0).await, Begin::Fresh);
    assert_eq!(begin(1, 0).await, Begin::InProgress);
    assert_eq!(begin(2, 0).await, Begin::Mismatch);
    store.abandon("key".to_owned()).await.unwrap();
    assert_eq!(begin(1, 0).await, Begin::Fresh);
    assert_eq!(store.abandon_unfinished().await.unwrap(), [id("ia")]);
    assert_eq!(begin(1, 0).await, Begin::Fresh);
    store
        .finish("key".to_owned(), "answer".to_owned())
        .await
        .unwrap();
    store.abandon("key".to_owned()).await.unwrap();
    assert_eq!(begin(1, 1).await, Begin::Repeat("answer".to_owned()));
    assert_eq!(begin(1, 86_400_000_001).await, Begin::Fresh);
}

#[tokio::test]
async fn events_are_told_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for n in 0..5 {
        let event = super::events::Event {
            at: at(n),
            name: format!("e{n}"),
            detail: String::new(),
        };
        store.record(id("ia"), event).await.unwrap();
    }
    let events = store.events(id("ia"), at(1), 3).await.unwrap();
    let names: Vec<_> = events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["e1", "e2", "e3"]);
    assert!(store.events(id("ib"), at(0), 3).await.unwrap().is_empty());
}

#[test]
fn a_file_of_a_newer_daemon_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let file = dir.path().join(super::FILE);
    let db = rusqlite::Connection::open(&file).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }));
    assert!(error.to_string().contains("--state-dir"));
}
