//! The code interpreter: contexts, and cells as streams of lines.
//!
//! It runs no code either: `script` knows the statements that the suite sends, in the few languages that it sends.
//!
//! ```text
//!  POST /execute ──► context (queue: one cell at a time) ──► cell ──► {"type": …} lines … {"type":"end_of_execution"}
//!  /contexts     ──► list, create, delete, restart
//! ```

mod cell;
mod context;
mod script;

use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

pub use context::Context;

use crate::reply::{bare, empty, json as answer_json};
use crate::world::{Sandbox, World, lock};

/// The interpreter's port.
pub const PORT: u16 = 49_999;
/// The template that has it.
pub const TEMPLATE: &str = "code-interpreter-v1";
/// Largest body.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The contexts of a sandbox, oldest first.
#[derive(Debug, Default)]
pub struct Interpreter {
    contexts: Mutex<Vec<Arc<Context>>>,
}

impl Interpreter {
    /// The contexts; those that are there from the beginning come first.
    fn all(&self, w: &World) -> Vec<Arc<Context>> {
        let mut all = lock(&self.contexts);
        if all.is_empty() {
            for language in ["python", "javascript"] {
                all.push(Arc::new(Context::new(w, language, "/home/user", true)));
            }
        }
        all.clone()
    }

    fn find(&self, w: &World, id: &str) -> Option<Arc<Context>> {
        self.all(w).into_iter().find(|one| one.id == id)
    }

    /// The shared context of a language, made when it is first asked for.
    fn shared(&self, w: &World, language: &str) -> Arc<Context> {
        let fits = |one: &Arc<Context>| one.shared && one.language == language;
        match self.all(w).into_iter().find(fits) {
            Some(context) => context,
            None => self.add(Context::new(w, language, "/home/user", true)),
        }
    }

    fn add(&self, context: Context) -> Arc<Context> {
        let context = Arc::new(context);
        lock(&self.contexts).push(Arc::clone(&context));
        context
    }
}

fn refused(code: u16, why: &str) -> Response {
    bare(code, "text/plain", why.to_owned())
}

pub async fn answer(w: &Arc<World>, sandbox: &Arc<Sandbox>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().as_str().to_owned();
    let Ok(bytes) = to_bytes(request.into_body(), MAX_BODY).await else {
        return refused(413, "the body is too large");
    };
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["health"]) if w.on("interpreter-health-500") => empty(500),
        ("GET", ["health"]) => answer_json(200, &json!("OK")),
        ("POST", ["execute"]) => executed(w, sandbox, &body).await,
        ("POST", ["contexts"]) => created(w, sandbox, &body),
        ("GET", ["contexts"]) => listed(w, sandbox),
        ("DELETE", ["contexts", id]) => match sandbox.interpreter.find(w, id) {
            None => refused(404, "no such context"),
            Some(_) => {
                if !w.on("context-delete-ignored") {
                    lock(&sandbox.interpreter.contexts).retain(|one| one.id != *id);
                }
                answer_json(200, &Value::Null)
            }
        },
        ("POST", ["contexts", id, "restart"]) => match sandbox.interpreter.find(w, id) {
            None => refused(404, "no such context"),
            Some(context) => restarted(w, sandbox, &context),
        },
        _ => refused(404, "not found"),
    }
}

fn restarted(w: &World, sandbox: &Sandbox, context: &Context) -> Response {
    if !w.on("restart-keeps-state") {
        context.wipe();
    }
    if w.on("restart-new-id") {
        let fresh = Context::new(w, &context.language, &context.cwd, false);
        lock(&sandbox.interpreter.contexts).retain(|one| one.id != context.id);
        sandbox.interpreter.add(fresh);
    }
    answer_json(200, &Value::Null)
}

fn language(name: &str) -> String {
    match name {
        "js" => "javascript".to_owned(),
        "ts" => "typescript".to_owned(),
        name => name.to_owned(),
    }
}

fn runs(w: &World, language: &str) -> bool {
    match language {
        "python" => true,
        "javascript" => !w.on("no-javascript"),
        "typescript" => !w.on("no-typescript"),
        "bash" => !w.on("no-bash-kernel"),
        "r" => !w.on("no-r"),
        "java" => !w.on("no-java"),
        _ => false,
    }
}

fn created(w: &World, sandbox: &Sandbox, body: &Value) -> Response {
    if body["language"].is_null() && w.on("context-needs-language") {
        return refused(422, "language is required");
    }
    let language = language(body["language"].as_str().unwrap_or("python"));
    if !runs(w, &language) {
        return refused(500, "there is no such kernel");
    }
    let cwd = body["cwd"].as_str().unwrap_or("/home/user");
    let context = Context::new(w, &language, cwd, false);
    let context = sandbox.interpreter.add(context);
    answer_json(200, &context.shown(w))
}

fn listed(w: &World, sandbox: &Sandbox) -> Response {
    let mut all = sandbox.interpreter.all(w);
    if w.on("default-contexts-hidden") {
        all.retain(|one| !one.shared);
    }
    if w.on("contexts-unsorted") {
        all.reverse();
    }
    let shown: Vec<Value> = all.iter().map(|one| one.shown(w)).collect();
    answer_json(200, &Value::Array(shown))
}

async fn executed(w: &Arc<World>, sandbox: &Arc<Sandbox>, body: &Value) -> Response {
    let nulls = ["context_id", "language", "env_vars"]
        .iter()
        .any(|name| body.get(*name).is_some_and(Value::is_null));
    if nulls && w.on("cell-nulls-refused") {
        return refused(422, "a member is null");
    }
    let (id, asked) = (body["context_id"].as_str(), body["language"].as_str());
    let context = match (id, asked) {
        (Some(_), Some(_)) if !w.on("cell-both-accepted") => {
            return refused(400, "context_id and language go not together");
        }
        (Some(id), _) => match sandbox.interpreter.find(w, id) {
            Some(context) => context,
            None if w.on("cell-unknown-context-200") => sandbox.interpreter.shared(w, "python"),
            None => return refused(404, "no such context"),
        },
        (None, asked) => {
            let language = language(asked.unwrap_or("python"));
            if !runs(w, &language) {
                return refused(500, "there is no such kernel");
            }
            sandbox.interpreter.shared(w, &language)
        }
    };
    cell::stream(w, sandbox, context, body).await
}
