//! Runs one cell and streams what it does.
//!
//! ```text
//! wait for the turn ─ renew randomness ─ seed the sandbox's variables ─ set the call's ─ run ─ put the call's back ─ end_of_execution
//!        └──── a keepalive after five idle seconds, at any time ────┘
//!
//! client gone:   before its turn, nothing has happened; while it runs, the cell is interrupted
//! kernel gone:   an error event says why (died, restarted, deleted)
//! ```
//!
//! The variables are set by cells of their own, silent and uncounted, so that the code runs as it was written.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_protocol::control::Depth;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::context::{Context, Running};
use super::error::InterpreterError;
use super::events::{Failure, OutputEvent};
use super::kernel::Ending;
use super::languages::{self, Change, Env};
use super::progress::Progress;

/// Idle time after which the client is told that nothing is wrong.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long the second end of an execution may come after the first; then it is taken for lost.
const SECOND_END: Duration = Duration::from_secs(5);
/// Between interrupts of a cell that goes on.
const INTERRUPT_INTERVAL: Duration = Duration::from_secs(2);
/// After so many interrupts the cell is left alone; its context is busy until it ends or is restarted.
const MAX_INTERRUPTS: u32 = 5;
/// Lines that wait for the client's connection. Few: one may have 64 MiB.
const LINES: usize = 2;

/// What to run.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The code.
    pub code: String,
    /// Variables of this call.
    pub env: Env,
    /// The sandbox's variables as of now.
    pub global_env: Env,
    /// The sandbox's incarnation as of now.
    pub incarnation: u64,
}

/// The client's end of an execution.
struct Outlet(mpsc::Sender<Bytes>);

/// The client has closed its connection.
#[derive(Debug)]
struct Gone;

impl Outlet {
    async fn send(&self, event: &OutputEvent) -> Result<(), Gone> {
        self.0.send(event.to_line()).await.map_err(|_| Gone)
    }

    /// Waits for `work` with keepalives. It is dropped when the client goes.
    async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = self.0.closed() => return Err(Gone),
                () = tokio::time::sleep(KEEPALIVE) => self.send(&OutputEvent::Keepalive).await?,
            }
        }
    }

    /// The same for work that must be finished, whether the client goes or not. Also tells whether it is there.
    async fn finish<T>(&self, work: impl Future<Output = T>) -> (T, Result<(), Gone>) {
        let mut work = pin!(work);
        match self.wait(&mut work).await {
            Ok(done) => (done, Ok(())),
            Err(Gone) => (work.await, Err(Gone)),
        }
    }
}

/// Starts an execution; its lines come out of the receiver. Dropping the receiver aborts it.
pub fn start(context: Arc<Context>, cell: Cell) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let outlet = Outlet(sender);
        if run(&context, &cell, &outlet).await.is_err() {
            tracing::debug!(context = context.info.id, "a client left its execution");
            return;
        }
        // The client may leave now as well.
        let _ = outlet.send(&OutputEvent::EndOfExecution).await;
    });
    receiver
}

async fn run(context: &Context, cell: &Cell, outlet: &Outlet) -> Result<(), Gone> {
    let _turn = outlet.wait(context.turn.lock()).await?;
    let running = match outlet.wait(context.ready()).await? {
        Ok(running) => running,
        Err(error) => return outlet.send(&not_running(&error)).await,
    };
    let (failed, there) = outlet.finish(prepare(&running, context, cell)).await;
    let outcome = match (failed, there) {
        (_, Err(gone)) => Err(gone),
        (Some(failed), Ok(())) => outlet.send(&failed).await,
        (None, Ok(())) => follow(&running, &cell.code, outlet).await,
    };
    if !cell.env.is_empty()
        && running.kernel.ending().is_none()
        && let Some(code) =
            languages::environment_code(&context.info.language, Change::Restore(&cell.env))
        && let Some(failed) = silently(&running, &code).await
    {
        tracing::warn!(
            context = context.info.id,
            ?failed,
            "variables could not be put back"
        );
    }
    outcome
}

/// Runs the language's warm-up code in a context.
///
/// # Errors
/// [`InterpreterError::NotRunning`] when the kernel does not start or the code fails.
pub async fn warm_up(
    context: &Context,
    depth: Depth,
    incarnation: u64,
) -> Result<(), InterpreterError> {
    let _turn = context.turn.lock().await;
    let running = context.ready().await?;
    let code = match depth {
        Depth::Template => languages::warm_up_code(&context.info.language),
        Depth::FirstCall => languages::renewal_code(&context.info.language),
    };
    let Some(code) = code else {
        return Ok(());
    };
    if depth == Depth::FirstCall {
        running.incarnation.store(incarnation, Ordering::Release);
    }
    match silently(&running, code).await {
        None => Ok(()),
        Some(failed) => Err(context.not_running(format!("its warm-up failed: {failed:?}"))),
    }
}

fn not_running(error: &InterpreterError) -> OutputEvent {
    OutputEvent::failure(Failure::UnexpectedEnd, error.to_string())
}

/// Brings the kernel's environment to what this cell is to see. Returns what went wrong.
async fn prepare(running: &Running, context: &Context, cell: &Cell) -> Option<OutputEvent> {
    let language = context.info.language.as_str();
    // The kernel was cloned with its generators' state: each clone must go on differently.
    if running.incarnation.load(Ordering::Acquire) != cell.incarnation
        && let Some(code) = languages::renewal_code(language)
    {
        if let Some(failed) = silently(running, code).await {
            return Some(failed);
        }
        running
            .incarnation
            .store(cell.incarnation, Ordering::Release);
    }
    let changes = running.env_changes(&cell.global_env);
    if !changes.is_empty()
        && let Some(code) = languages::environment_code(language, Change::Seed(&changes))
    {
        if let Some(failed) = silently(running, &code).await {
            return Some(failed);
        }
        running.set_env(cell.global_env.clone());
    }
    if cell.env.is_empty() {
        return None;
    }
    let code = languages::environment_code(language, Change::Set(&cell.env))?;
    silently(running, &code).await
}

/// Runs code that shows nothing. Returns its error.
async fn silently(running: &Running, code: &str) -> Option<OutputEvent> {
    let content = request(code, true);
    let Ok(mut replies) = running.kernel.request("execute_request", &content).await else {
        return Some(lost(running));
    };
    let mut progress = Progress::default();
    let mut failed = None;
    while !progress.finished() {
        let second_end = async {
            if progress.half_finished() {
                tokio::time::sleep(SECOND_END).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let reply = tokio::select! {
            reply = replies.next() => reply,
            () = second_end => break,
        };
        let Some(reply) = reply else {
            return Some(lost(running));
        };
        let events = progress.take(reply.channel, reply.message);
        failed = events
            .into_iter()
            .find(|event| matches!(event, OutputEvent::Error(_)))
            .or(failed);
    }
    failed.or(progress.into_pending_error())
}

/// Runs the cell itself and streams its events.
async fn follow(running: &Running, code: &str, outlet: &Outlet) -> Result<(), Gone> {
    let content = request(code, false);
    let Ok(mut replies) = running.kernel.request("execute_request", &content).await else {
        return outlet.send(&lost(running)).await;
    };
    let mut progress = Progress::default();
    let mut gone = false;
    let mut interrupts = 0;
    let mut timer = Instant::now() + KEEPALIVE;
    while !progress.finished() {
        let reply = tokio::select! {
            reply = replies.next() => reply,
            () = outlet.0.closed(), if !gone => {
                gone = true;
                timer = Instant::now();
                continue;
            }
            () = tokio::time::sleep_until(timer), if !gone || interrupts < MAX_INTERRUPTS || progress.half_finished() => {
                if progress.half_finished() {
                    break;
                }
                if gone {
                    interrupts += 1;
                    running.kernel.interrupt().await;
                    timer = Instant::now() + INTERRUPT_INTERVAL;
                } else {
                    gone = outlet.send(&OutputEvent::Keepalive).await.is_err();
                    timer = Instant::now() + KEEPALIVE;
                }
                continue;
            }
        };
        let Some(reply) = reply else {
            return if gone {
                Err(Gone)
            } else {
                outlet.send(&lost(running)).await
            };
        };
        // Held until the client has it.
        let _budget = reply.budget;
        for event in progress.take(reply.channel, reply.message) {
            // A client that left is seen by the select; the rest of the cell is then only waited for.
            if !gone && outlet.send(&event).await.is_err() {
                gone = true;
                timer = Instant::now();
            }
        }
        if progress.half_finished() {
            timer = Instant::now() + SECOND_END;
        } else if !gone {
            timer = Instant::now() + KEEPALIVE;
        }
    }
    if gone {
        return Err(Gone);
    }
    match progress.into_pending_error() {
        Some(error) => outlet.send(&error).await,
        None => Ok(()),
    }
}

/// Why the kernel went away, as the client is told.
fn lost(running: &Running) -> OutputEvent {
    match running.kernel.ending() {
        Some(Ending::Restarted) => {
            OutputEvent::failure(Failure::Restarting, "Context was restarted")
        }
        Some(Ending::Deleted) => OutputEvent::failure(
            Failure::UnexpectedEnd,
            "the context was deleted before the execution was finished",
        ),
        Some(Ending::Died(reason)) => OutputEvent::failure(
            Failure::UnexpectedEnd,
            format!(
                "the kernel died before the execution was finished ({reason}); \
                 a new one is being started, without the old one's variables"
            ),
        ),
        None => OutputEvent::failure(
            Failure::UnexpectedEnd,
            "the connection to the kernel was lost before the execution was finished",
        ),
    }
}

/// The content of an `execute_request`. Errors do not make the kernel refuse what comes next: that is the next
/// client's cell, or the one that puts the variables back.
fn request(code: &str, silent: bool) -> serde_json::Value {
    json!({
        "code": code,
        "silent": silent,
        "store_history": !silent,
        "user_expressions": {},
        "allow_stdin": false,
        "stop_on_error": false,
    })
}
