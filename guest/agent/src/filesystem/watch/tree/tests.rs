//! Watches on real directories: every drain is taken right after the change, without waiting.

use super::*;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

fn tree(path: &Path, recursive: bool) -> Tree {
    let path = path.canonicalize().unwrap();
    Tree::open(
        Request {
            path,
            recursive,
            include_entry: false,
        },
        UserDb::default(),
    )
    .unwrap()
}

fn drained(tree: &mut Tree) -> Vec<(String, Change)> {
    tree.drain()
        .unwrap()
        .into_iter()
        .map(|event| (event.name, event.change))
        .collect()
}

fn seen(name: &str, change: Change) -> (String, Change) {
    (name.to_owned(), change)
}

#[test]
fn a_new_file_is_create_chmod_write_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path(), false);
    let mut file = fs::File::create(dir.path().join("f")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(
        drained(&mut tree),
        [
            seen("f", Change::Create),
            seen("f", Change::Chmod),
            seen("f", Change::Write)
        ]
    );
    assert_eq!(drained(&mut tree), [], "a drain empties the queue");
}

#[test]
fn a_rename_is_seen_at_both_ends_and_a_removal_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), b"").unwrap();
    let mut tree = tree(dir.path(), false);
    fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    fs::remove_file(dir.path().join("b")).unwrap();
    assert_eq!(
        drained(&mut tree),
        [
            seen("a", Change::Rename),
            seen("b", Change::Create),
            seen("b", Change::Remove)
        ]
    );
}

#[test]
fn a_plain_watch_does_not_look_below_and_a_recursive_one_does() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("s/t")).unwrap();
    let mut flat = tree(dir.path(), false);
    let mut deep = tree(dir.path(), true);
    fs::write(dir.path().join("s/t/f"), b"1").unwrap();
    assert_eq!(drained(&mut flat), []);
    assert_eq!(
        drained(&mut deep),
        [seen("s/t/f", Change::Create), seen("s/t/f", Change::Write)]
    );
}

#[test]
fn new_directories_join_the_tree_with_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path(), true);
    // All before the first drain: no watch was on "n" when its content came.
    fs::create_dir_all(dir.path().join("n/m")).unwrap();
    fs::write(dir.path().join("n/m/f"), b"1").unwrap();
    let events = drained(&mut tree);
    for expected in [
        seen("n", Change::Create),
        seen("n/m", Change::Create),
        seen("n/m/f", Change::Create),
        seen("n/m/f", Change::Write),
    ] {
        assert_eq!(
            events.iter().filter(|event| **event == expected).count(),
            1,
            "{events:?}"
        );
    }
    // From now on the kernel tells.
    fs::write(dir.path().join("n/m/g"), b"").unwrap();
    assert_eq!(drained(&mut tree), [seen("n/m/g", Change::Create)]);
}

#[test]
fn a_directory_moved_within_the_tree_is_followed_and_one_moved_out_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let mut tree = tree(dir.path(), true);
    fs::rename(dir.path().join("a"), dir.path().join("z")).unwrap();
    assert_eq!(
        drained(&mut tree),
        [seen("a", Change::Rename), seen("z", Change::Create)]
    );
    fs::write(dir.path().join("z/b/f"), b"").unwrap();
    assert_eq!(drained(&mut tree), [seen("z/b/f", Change::Create)]);
    fs::rename(dir.path().join("z"), outside.path().join("z")).unwrap();
    fs::write(outside.path().join("z/b/g"), b"").unwrap();
    assert_eq!(drained(&mut tree), [seen("z", Change::Rename)]);
}

#[test]
fn a_directory_below_reports_its_removal_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("s")).unwrap();
    let mut tree = tree(dir.path(), true);
    fs::remove_dir(dir.path().join("s")).unwrap();
    assert_eq!(drained(&mut tree), [seen("s", Change::Remove)]);
    assert_eq!(tree.directories.len(), 1, "its watch is forgotten");
}

#[test]
fn the_watched_directory_itself_is_a_dot() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut tree = tree(&root, false);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir(&root).unwrap();
    assert_eq!(
        drained(&mut tree),
        [seen(".", Change::Chmod), seen(".", Change::Remove)]
    );
}

#[test]
fn entries_are_attached_when_asked_for_and_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let request = Request {
        path,
        recursive: false,
        include_entry: true,
    };
    let mut tree = Tree::open(request, UserDb::default()).unwrap();
    fs::write(dir.path().join("kept"), b"123").unwrap();
    fs::write(dir.path().join("gone"), b"123").unwrap();
    fs::remove_file(dir.path().join("gone")).unwrap();
    for event in tree.drain().unwrap() {
        assert_eq!(event.entry.is_some(), event.name == "kept", "{event:?}");
        if let Some(entry) = event.entry {
            assert_eq!((entry.name.as_str(), entry.size), ("kept", 3));
        }
    }
}

#[test]
fn an_overflowed_queue_is_an_error_and_the_watch_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path(), false);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if limit > 100_000 {
        eprintln!("not tested here: the kernel queues {limit} events, filling it takes too long");
        return;
    }
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, b"").unwrap();
    for _ in 0..limit / 4 + 1 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    let mut outcomes = Vec::new();
    for _ in 0..limit {
        match tree.drain() {
            Ok(events) if events.is_empty() => break,
            outcome => outcomes.push(outcome.map(|events| events.len())),
        }
    }
    assert!(
        outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(FilesystemError::EventsLost))),
        "{outcomes:?}"
    );
    fs::write(dir.path().join("later"), b"").unwrap();
    assert_eq!(drained(&mut tree), [seen("later", Change::Create)]);
}

#[test]
fn a_missing_directory_cannot_be_watched() {
    let request = Request {
        path: "/nonexistent-directory".into(),
        recursive: false,
        include_entry: false,
    };
    let error = Tree::open(request, UserDb::default()).unwrap_err();
    assert!(matches!(error, FilesystemError::NotFound(_)), "{error}");
}
