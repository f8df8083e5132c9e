//! Watches of folders: as a stream, and as a queue that is asked.
//!
//! ```text
//!  tree.changes   0 1 2 3 4 5 …
//!                       ▲ from: a watch reads on from here, takes what is below its root, and tells it by relative name
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::connect::{Failure, frame};
use super::filesystem::entry;
use super::streams::{beat, streamed};
use super::{User, resolved};
use crate::service::until_death;
use crate::tree::{Change, Kind, Tree, parent};
use crate::world::{Sandbox, World, lock};

/// Whether a unary method is here.
pub fn is_own(method: &str) -> bool {
    matches!(
        method,
        "CreateWatcher" | "GetWatcherEvents" | "RemoveWatcher"
    )
}

/// One watch.
#[derive(Debug)]
pub struct Watch {
    root: String,
    recursive: bool,
    entries: bool,
    from: usize,
    /// Folders that were there at its beginning; only a fault looks at them.
    folders: BTreeSet<String>,
}

impl Watch {
    fn begin(w: &World, tree: &Tree, who: &User, body: &Value) -> Result<Self, Failure> {
        let root = resolved(w, who, body["path"].as_str().unwrap_or(""));
        let is_dir = tree.get(&root).map(|node| node.kind == Kind::Dir);
        match is_dir {
            None if !w.on("watch-missing-starts") => {
                return Err(Failure::new("not_found", "no such file or directory"));
            }
            Some(false) if !w.on("watch-file-starts") => {
                return Err(Failure::new("invalid_argument", "it is not a directory"));
            }
            _ => {}
        }
        let folders = tree
            .below(&root, u32::MAX)
            .into_iter()
            .chain([root.clone()]);
        Ok(Self {
            folders: folders.collect(),
            root,
            recursive: (body["recursive"] == true && !w.on("watch-recursive-flat"))
                || w.on("watch-always-recursive"),
            entries: body["includeEntry"] == true && !w.on("watch-without-entry"),
            from: tree.changes().len(),
        })
    }

    /// What has happened since it was asked last.
    fn next(&mut self, w: &World, tree: &Tree, polled: bool) -> Vec<Value> {
        let fresh = &tree.changes()[self.from..];
        let late = |change: &&Change| {
            !(polled && w.on("watcher-late")) || change.at.elapsed() > Duration::from_secs(1)
        };
        let ready = fresh.iter().take_while(late).count();
        let told = fresh[..ready]
            .iter()
            .filter_map(|change| self.told(w, tree, change))
            .collect();
        if !(polled && w.on("watcher-repeats")) {
            self.from += ready;
        }
        told
    }

    fn told(&self, w: &World, tree: &Tree, change: &Change) -> Option<Value> {
        let name = change
            .path
            .strip_prefix(&self.root)
            .and_then(|rest| rest.strip_prefix('/'))?;
        let above = parent(&change.path);
        let unseen = w.on("watch-new-folders-missed") && !self.folders.contains(&above);
        if (!self.recursive && above != self.root) || unseen {
            return None;
        }
        let what = match change.what {
            "CREATE" if w.on("watch-no-create") => return None,
            "WRITE" if w.on("watch-no-write") => return None,
            "REMOVE" if w.on("watch-no-remove") => return None,
            "CHMOD" if w.on("watch-no-chmod") => return None,
            "RENAME" if w.on("watch-rename-as-remove") => "REMOVE",
            what => what,
        };
        let name = if w.on("watch-absolute-names") {
            &change.path
        } else {
            name
        };
        let mut event = json!({ "name": name, "type": format!("EVENT_TYPE_{what}") });
        let there = tree.get(&change.path).is_some();
        if self.entries && there && matches!(what, "CREATE" | "WRITE" | "CHMOD") {
            event["entry"] = entry(w, tree, &change.path);
        }
        Some(event)
    }
}

/// `WatchDir`.
pub fn stream(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    who: &User,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, Failure> {
    let (watch, news) = {
        let tree = lock(&sandbox.tree);
        (Watch::begin(w, &tree, who, body)?, tree.news())
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(fed(
        Arc::clone(w),
        Arc::clone(sandbox),
        (watch, news),
        beat(headers),
        sender,
    ));
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes: Bytes| (bytes, receiver))
    });
    Ok(streamed(w, until_death(w, sandbox, pieces.boxed())))
}

async fn fed(
    w: Arc<World>,
    sandbox: Arc<Sandbox>,
    (mut watch, mut news): (Watch, tokio::sync::watch::Receiver<usize>),
    beat: u64,
    out: mpsc::UnboundedSender<Bytes>,
) {
    let send = |value: Value| out.send(frame(0, &value)).is_ok();
    if !w.on("watch-no-start") {
        send(json!({ "start": {} }));
    }
    loop {
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
                let events = watch.next(&w, &lock(&sandbox.tree), false);
                for event in events {
                    send(json!({ "filesystem": event }));
                }
            }
            () = tokio::time::sleep(Duration::from_secs(beat)) => {
                if !w.on("watch-no-keepalive") {
                    send(json!({ "keepalive": {} }));
                }
            }
            () = out.closed() => return,
        }
    }
}

/// The queue.
pub fn unary(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    method: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let tree = lock(&sandbox.tree);
    let mut all = lock(&sandbox.watchers);
    let id = body["watcherId"].as_str().unwrap_or("");
    let unknown = || Failure::new("not_found", "no such watcher");
    match method {
        "CreateWatcher" => {
            let watch = Watch::begin(w, &tree, who, body)?;
            let id = w.word("w", 12);
            all.insert(id.clone(), watch);
            if w.on("watcher-without-id") {
                return Ok(json!({}));
            }
            Ok(json!({ "watcherId": id }))
        }
        "GetWatcherEvents" => match all.get_mut(id) {
            None if w.on("watcher-unknown-empty") => Ok(json!({})),
            None => Err(unknown()),
            Some(watch) => Ok(json!({ "events": watch.next(w, &tree, true) })),
        },
        _ if w.on("watcher-stays") => Ok(json!({})),
        _ => match all.remove(id) {
            None => Err(unknown()),
            Some(_) => Ok(json!({})),
        },
    }
}
