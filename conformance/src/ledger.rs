//! All that a run has made, so that nothing is left behind whatever happens.
//!
//! ```text
//!  answer to POST …/sandboxes   DELETE /sandboxes/ID     each sandbox carries the run's label in its metadata, so that
//!            POST …/fork        DELETE /sandboxes/ID     one whose answer was lost is found by listing
//!            POST …/snapshots   DELETE /templates/ID     after the sandboxes, which may be made from it
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::target::Target;
use crate::wire::encode::{metadata_filter, percent};
use crate::wire::http1;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// Name of the label.
pub const LABEL: &str = "e2b-conformance-run";

/// What one run has made.
#[derive(Clone, Debug)]
pub struct Ledger {
    run: String,
    /// Paths that delete what is still there. Sorted: sandboxes go before templates.
    alive: Arc<Mutex<BTreeSet<String>>>,
}

impl Ledger {
    /// An empty one for a run of this name.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            alive: Arc::default(),
        }
    }

    /// The run's name: the label's value.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Notes what a request made or deleted, from its answer. Gives the paths that delete what it made.
    pub fn note(&self, request: &Request, reply: &Reply) -> Vec<String> {
        let path = request.path.split('?').next().unwrap_or("");
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if request.method == Method::DELETE && reply.status.is_success() {
            alive.remove(path);
        }
        if request.method != Method::POST {
            return Vec::new();
        }
        let made = made(path, &reply.body);
        alive.extend(made.iter().cloned());
        made
    }

    /// Deletes all that is left, and all sandboxes that carry the run's label. Gives how many went and which would not go.
    pub async fn clean(&self, target: &Target) -> (usize, Vec<String>) {
        let limit = Duration::from_secs(30).mul_f64(target.patience);
        let mut paths: BTreeSet<String> =
            std::mem::take(&mut *self.alive.lock().unwrap_or_else(PoisonError::into_inner));
        let filter = metadata_filter(&[(LABEL, &self.run)]);
        let listing = request(
            target,
            Method::GET,
            &format!("/v2/sandboxes?metadata={filter}"),
            limit,
        );
        if let Ok(reply) = http1::exchange(&listing).await
            && let Ok(Value::Array(items)) = serde_json::from_slice::<Value>(&reply.body)
        {
            // A target that ignores the filter lists others' sandboxes too: the label is looked at here as well.
            let ours = items
                .iter()
                .filter(|item| item["metadata"][LABEL] == self.run.as_str());
            paths.extend(
                ours.filter_map(|item| item["sandboxID"].as_str())
                    .map(sandbox),
            );
        }
        let mut killed = 0;
        let mut left = Vec::new();
        for path in paths {
            let kill = request(target, Method::DELETE, &path, limit);
            match http1::exchange(&kill)
                .await
                .map(|reply| reply.status.as_u16())
            {
                Ok(404) => {}
                Ok(200..=299) => killed += 1,
                _ => left.push(path),
            }
        }
        (killed, left)
    }
}

/// The path that deletes a sandbox.
#[must_use]
pub fn sandbox(id: &str) -> String {
    format!("/sandboxes/{id}")
}

/// The paths that delete what a POST to this path made, by its answer.
fn made(path: &str, answer: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(answer) else {
        return Vec::new();
    };
    match path.rsplit('/').next() {
        Some("sandboxes") => body["sandboxID"]
            .as_str()
            .map(sandbox)
            .into_iter()
            .collect(),
        Some("fork") => {
            let entries = body.as_array().map(Vec::as_slice).unwrap_or_default();
            let ids = entries
                .iter()
                .filter_map(|entry| entry["sandbox"]["sandboxID"].as_str());
            ids.map(sandbox).collect()
        }
        Some("snapshots") => {
            let id = body["snapshotID"].as_str();
            id.map(|id| format!("/templates/{}", percent(id)))
                .into_iter()
                .collect()
        }
        Some("templates") => thing("/templates", &body["templateID"]),
        Some("volumes") => thing("/volumes", &body["volumeID"]),
        Some("secrets") => thing("/secrets", &body["secretID"]),
        _ => Vec::new(),
    }
}

/// The path that deletes a thing of this id.
fn thing(below: &str, id: &Value) -> Vec<String> {
    let id = id.as_str().map(|id| format!("{below}/{}", percent(id)));
    id.into_iter().collect()
}

fn request(target: &Target, method: Method, path: &str, limit: Duration) -> Request {
    Request::new(&target.way, method, &target.url, path, limit)
        .header("x-api-key", target.api_key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_post_made_is_known_by_the_path_that_deletes_it() {
        let fork = br#"[{"sandbox":{"sandboxID":"a"}},{"error":{"code":500,"message":"no"}},{"sandbox":{"sandboxID":"b"}}]"#;
        assert_eq!(
            made("/v2/sandboxes", br#"{"sandboxID":"x"}"#),
            ["/sandboxes/x"]
        );
        assert_eq!(
            made("/sandboxes/x/fork", fork),
            ["/sandboxes/a", "/sandboxes/b"]
        );
        assert_eq!(
            made(
                "/sandboxes/x/snapshots",
                br#"{"snapshotID":"team/a:b","names":[]}"#
            ),
            ["/templates/team%2Fa%3Ab"]
        );
        assert_eq!(
            made("/v3/templates", br#"{"templateID":"t","buildID":"b"}"#),
            ["/templates/t"]
        );
        assert_eq!(made("/volumes", br#"{"volumeID":"v"}"#), ["/volumes/v"]);
        assert!(made("/templates/tags", br#"{"tags":[]}"#).is_empty());
        assert!(made("/sandboxes/x/fork", b"oops").is_empty());
        assert!(made("/sandboxes/x/pause", b"{}").is_empty());
    }
}
