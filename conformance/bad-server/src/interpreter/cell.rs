//! A cell at work: its lines, from the first to `end_of_execution`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::context::Context;
use super::script::{self, Raised, Step};
use crate::agent::process::globals;
use crate::reply::bare;
use crate::service::until_death;
use crate::world::{Sandbox, World, lock};

/// Seconds between keep-alives.
const KEEPALIVE: u64 = 5;

/// Where the lines of a cell go.
struct Lines {
    w: Arc<World>,
    out: mpsc::UnboundedSender<Bytes>,
}

impl Lines {
    fn tell(&self, line: &Value) {
        let comma = if self.w.on("execute-without-newlines") {
            ""
        } else {
            "\n"
        };
        let _ = self.out.send(format!("{line}{comma}").into());
    }

    fn output(&self, kind: &str, text: &str) {
        let kind = if self.w.on("cell-stderr-as-stdout") {
            "stdout"
        } else {
            kind
        };
        let mut line =
            json!({ "type": kind, "text": text, "timestamp": Timestamp::now().to_string() });
        if self.w.on("cell-output-without-timestamp") {
            line = json!({ "type": kind, "text": text });
        }
        self.tell(&line);
    }

    fn error(&self, raised: &Raised) {
        let trace = format!(
            "Traceback (most recent call last):\n{}: {}",
            raised.name, raised.value
        );
        let trace = if self.w.on("cell-traceback-as-list") {
            json!([trace])
        } else {
            json!(trace)
        };
        self.tell(&json!({
            "type": "error", "name": raised.name, "value": raised.value, "traceback": trace,
        }));
    }
}

/// Runs a cell; the answer comes line by line.
pub async fn stream(
    w: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    context: Arc<Context>,
    body: &Value,
) -> Response {
    let code = body["code"].as_str().unwrap_or("").to_owned();
    let own = body["env_vars"].as_object().into_iter().flatten();
    let own: BTreeMap<String, String> = own
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .filter(|_| !w.on("cell-env-ignored"))
        .collect();
    if w.on("cell-env-stays") {
        lock(&context.envs).extend(own.clone());
    }
    let mut envs = if w.on("cell-without-global-env") {
        BTreeMap::new()
    } else {
        globals(w, sandbox)
    };
    envs.extend(lock(&context.envs).clone());
    envs.extend(own);
    let guest = &sandbox.guest;
    *lock(&context.drawn) = (guest.draw(w, "python"), guest.draw(w, "openssl"));
    let (out, receiver) = mpsc::unbounded_channel();
    let lines = Lines {
        w: Arc::clone(w),
        out: out.clone(),
    };
    let deaf = w.on("cell-abort-ignored");
    tokio::spawn(async move {
        tokio::select! {
            () = ran(lines, &context, &code, envs) => {}
            // A client that goes away interrupts its cell.
            () = out.closed(), if !deaf => {}
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes: Bytes| (bytes, receiver))
    });
    bare(
        200,
        "application/json",
        until_death(w, sandbox, pieces.boxed()),
    )
}

async fn ran(lines: Lines, context: &Context, code: &str, envs: BTreeMap<String, String>) {
    let w = &lines.w;
    let turn = if w.on("cells-at-once") {
        None
    } else {
        Some(context.turn.lock().await)
    };
    if w.on("cells-forget") {
        context.wipe();
    }
    if context.is_dead() {
        lines.error(&Raised::new("WebSocketError", "the kernel is gone"));
    } else {
        if !w.on("cell-count-missing") {
            lines.tell(
                &json!({ "type": "number_of_executions", "execution_count": context.next() }),
            );
        }
        steps(&lines, context, code, &envs).await;
    }
    drop(turn);
    if !w.on("cell-no-end") {
        lines.tell(&json!({ "type": "end_of_execution" }));
    }
}

async fn steps(lines: &Lines, context: &Context, code: &str, envs: &BTreeMap<String, String>) {
    let w = &lines.w;
    let mut figure = script::Figure::default();
    let statements: Vec<&str> = code
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    for (index, statement) in statements.iter().enumerate() {
        let last = index + 1 == statements.len();
        match script::step(w, context, statement.trim(), envs, &mut figure) {
            Ok(Step::Nothing) => {}
            Ok(Step::Printed(text)) => lines.output("stdout", &text),
            Ok(Step::Complained(text)) => lines.output("stderr", &text),
            Ok(Step::Slept(seconds)) => slept(lines, seconds).await,
            Ok(Step::Shown(mut shown)) => {
                shown["is_main_result"] = json!(w.on("cell-display-as-main"));
                lines.tell(&shown);
            }
            Ok(Step::Value(mut shown)) if last => {
                shown["is_main_result"] = json!(!w.on("cell-main-unmarked"));
                lines.tell(&shown);
            }
            Ok(Step::Value(_)) => {}
            Ok(Step::Died) => {
                context.die(w);
                lines.error(&Raised::new("UnexpectedEndOfExecution", "the kernel ended"));
                return;
            }
            Err(raised) => return lines.error(&raised),
        }
    }
}

async fn slept(lines: &Lines, seconds: f64) {
    let sleep = tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 600.0)));
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return,
            () = tokio::time::sleep(Duration::from_secs(KEEPALIVE)) => {
                if !lines.w.on("cell-no-keepalive") {
                    lines.tell(&json!({ "type": "keepalive" }));
                }
            }
        }
    }
}
