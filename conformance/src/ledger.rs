//! All sandboxes that a run has made, so that none is left behind whatever happens.
//!
//! Sandboxes are noted from the answers to creates, and each create carries the run's label in its metadata, so that one
//! whose answer was lost is found by listing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::target::Target;
use crate::wire::encode::metadata_filter;
use crate::wire::http1;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// Name of the label.
pub const LABEL: &str = "e2b-conformance-run";

/// The sandboxes of one run.
#[derive(Clone, Debug)]
pub struct Ledger {
    run: String,
    alive: Arc<Mutex<BTreeSet<String>>>,
    /// Paths of the API at which other things are deleted: templates, volumes, secrets.
    things: Arc<Mutex<BTreeSet<String>>>,
}

impl Ledger {
    /// An empty one for a run of this name.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            alive: Arc::default(),
            things: Arc::default(),
        }
    }

    /// The run's name: the label's value.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Notes what a request made or killed, from its answer. Gives the id of what it made.
    pub fn note(&self, request: &Request, reply: &Reply) -> Option<String> {
        let path = request.path.split('?').next().unwrap_or("");
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if request.method == Method::DELETE && reply.status.is_success() {
            alive.remove(path.rsplit('/').next().unwrap_or(""));
        }
        if request.method != Method::POST || !path.ends_with("/sandboxes") {
            return None;
        }
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        let id = body["sandboxID"].as_str()?.to_owned();
        alive.insert(id.clone());
        Some(id)
    }

    /// Notes a thing that is no sandbox, by the path at which it is deleted.
    pub fn also(&self, path: &str) {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.insert(path.to_owned());
    }

    /// Deletes a thing that was noted. Gives whether it is gone.
    pub async fn delete(&self, target: &Target, path: &str) -> bool {
        let limit = Duration::from_secs(30).mul_f64(target.patience);
        let request = request(target, Method::DELETE, path, limit);
        let reply = http1::exchange(&request).await;
        let gone = reply.is_ok_and(|reply| matches!(reply.status.as_u16(), 200..=299 | 404));
        if gone {
            let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
            things.remove(path);
        }
        gone
    }

    /// Kills all that are left, and all that carry the run's label. Gives how many it killed and which would not go.
    pub async fn clean(&self, target: &Target) -> (usize, Vec<String>) {
        let limit = Duration::from_secs(30).mul_f64(target.patience);
        let mut ids: BTreeSet<String> =
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
            ids.extend(
                ours.filter_map(|item| item["sandboxID"].as_str())
                    .map(str::to_owned),
            );
        }
        let mut killed = 0;
        let mut left = Vec::new();
        for id in ids {
            let kill = request(target, Method::DELETE, &format!("/sandboxes/{id}"), limit);
            match http1::exchange(&kill)
                .await
                .map(|reply| reply.status.as_u16())
            {
                Ok(404) => {}
                Ok(200..=299) => killed += 1,
                _ => left.push(id),
            }
        }
        // After the sandboxes: what they use is not deleted.
        let things =
            std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner));
        for path in things {
            if !self.delete(target, &path).await {
                left.push(path);
            }
        }
        (killed, left)
    }
}

fn request(target: &Target, method: Method, path: &str, limit: Duration) -> Request {
    Request::new(&target.way, method, &target.url, path, limit)
        .header("x-api-key", target.api_key.clone())
}
