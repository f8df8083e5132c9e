//! What a check has at hand: the target, a recorder, the run's ledger, and a sandbox that may be shared.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::check::{Stop, fail};
use crate::checks::templates::Built;
use crate::evidence::Recorder;
use crate::ledger::{self, LABEL, Ledger};
use crate::redact::Secrets;
use crate::sandbox::Sandbox;
use crate::target::Target;
use crate::wire::connect::Stream;
use crate::wire::http1::{self, HttpError};
use crate::wire::proto::Message;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// Seconds that one exchange may take, before patience.
const EXCHANGE: u64 = 30;
/// Seconds that sandboxes of the suite live at most.
const LIFE: u64 = 300;
/// Seconds that the shared sandbox lives at most.
const SHARED_LIFE: u64 = 3_600;

/// What all checks of a run share.
#[derive(Debug)]
pub struct Run {
    /// The target.
    pub target: Target,
    /// The sandboxes that were made.
    pub ledger: Ledger,
    /// What is never shown.
    pub secrets: Secrets,
    /// What SDK checks share.
    pub sdk: crate::sdk::Shared,
    shared: OnceCell<Result<Sandbox, Stop>>,
    interpreter: OnceCell<Result<Sandbox, Stop>>,
    built: OnceCell<Result<Built, Stop>>,
}

impl Run {
    /// A run of this name.
    #[must_use]
    pub fn new(target: Target, name: &str) -> Arc<Self> {
        let secrets = Secrets::default();
        secrets.add(&target.api_key);
        Arc::new(Self {
            target,
            ledger: Ledger::new(name),
            secrets,
            sdk: crate::sdk::Shared::default(),
            shared: OnceCell::new(),
            interpreter: OnceCell::new(),
            built: OnceCell::new(),
        })
    }
}

/// What one check has.
#[derive(Clone, Debug)]
pub struct Context {
    run: Arc<Run>,
    /// The check's id; empty outside of checks.
    check: &'static str,
    /// Takes down what goes over the wire.
    pub recorder: Recorder,
    /// What this check made for itself, as the paths that delete it.
    made: Arc<Mutex<Vec<String>>>,
}

impl Context {
    /// A context with an empty recorder.
    #[must_use]
    pub fn new(run: Arc<Run>) -> Self {
        Self::of(run, "")
    }

    /// The context of a check.
    #[must_use]
    pub fn of(run: Arc<Run>, check: &'static str) -> Self {
        let recorder = Recorder::new(run.secrets.clone());
        Self {
            run,
            check,
            recorder,
            made: Arc::default(),
        }
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.run.target
    }

    /// The check's id.
    #[must_use]
    pub fn check(&self) -> &'static str {
        self.check
    }

    /// What SDK checks share.
    #[must_use]
    pub fn sdk(&self) -> &crate::sdk::Shared {
        &self.run.sdk
    }

    /// What is never shown.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.run.secrets
    }

    /// The run's name: the label's value on its sandboxes.
    #[must_use]
    pub fn run_name(&self) -> &str {
        self.run.ledger.run()
    }

    /// So many seconds, times the target's patience.
    #[must_use]
    pub fn limit(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.run.target.patience)
    }

    /// The limit of an ordinary exchange.
    #[must_use]
    pub fn usual(&self) -> Duration {
        Duration::from_secs(EXCHANGE).mul_f64(self.run.target.patience)
    }

    /// A word that nobody else uses.
    #[must_use]
    pub fn unique(&self) -> String {
        unique()
    }

    /// A request to the API, with the key.
    #[must_use]
    pub fn api(&self, method: Method, path: &str) -> Request {
        let target = &self.run.target;
        Request::new(&target.way, method, &target.url, path, self.usual())
            .header("x-api-key", self.run.target.api_key.clone())
    }

    /// Sends a request and reads the reply.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&self, request: Request) -> Result<Reply, Stop> {
        self.exchange(&request)
            .await
            .map_err(|error| broken(&error))
    }

    /// The same, where having no reply is a result too.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn exchange(&self, request: &Request) -> Result<Reply, HttpError> {
        let since = Instant::now();
        let result = http1::exchange(request).await;
        self.recorder.done(request, since, &result);
        if let Ok(reply) = &result {
            let made = self.run.ledger.note(request, reply);
            self.made().extend(made);
        }
        result
    }

    /// Sends a request whose reply is a Connect stream.
    ///
    /// # Errors
    /// When it is none.
    pub async fn stream(&self, request: Request) -> Result<Stream, Stop> {
        self.stream_as(request, None).await
    }

    /// The same for a stream of protobuf messages.
    ///
    /// # Errors
    /// When it is none.
    pub async fn stream_as(
        &self,
        request: Request,
        message: Option<&'static Message>,
    ) -> Result<Stream, Stop> {
        let since = Instant::now();
        let result = http1::open(&request).await;
        let evidence = self.recorder.opened(&request, since, &result);
        Stream::begin_as(result.map_err(|error| broken(&error))?, evidence, message)
    }

    /// Gets a path of the API.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn get(&self, path: &str) -> Result<Reply, Stop> {
        self.send(self.api(Method::GET, path)).await
    }

    /// Posts JSON to a path of the API.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, Stop> {
        self.send(self.api(Method::POST, path).json(body)).await
    }

    /// Deletes a path of the API.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn delete(&self, path: &str) -> Result<Reply, Stop> {
        self.send(self.api(Method::DELETE, path)).await
    }

    /// A create body: the target's template, the run's label, and what the check adds.
    #[must_use]
    pub fn body(&self, extra: Value) -> Value {
        let mut body = json!({ "templateID": self.run.target.template, "metadata": {} });
        if let Value::Object(extra) = extra {
            for (name, value) in extra {
                body[name] = value;
            }
        }
        if body["metadata"].is_object() {
            body["metadata"][LABEL] = json!(self.run.ledger.run());
        }
        body
    }

    /// Creates a sandbox (`POST /v2/sandboxes`) with what the check adds; any reply is a result.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn create(&self, extra: Value) -> Result<Reply, Stop> {
        self.post("/v2/sandboxes", &self.body(extra)).await
    }

    /// A sandbox of the check's own.
    ///
    /// # Errors
    /// Untestable when it cannot be created.
    pub async fn fresh(&self, extra: Value) -> Result<Sandbox, Stop> {
        let mut body = json!({ "timeout": LIFE });
        if let Value::Object(extra) = extra {
            for (name, value) in extra {
                body[name] = value;
            }
        }
        let blocked = |stop: Stop| stop.blocks("a sandbox could not be created");
        let reply = self.create(body).await.map_err(blocked)?;
        if !reply.status.is_success() {
            return Err(blocked(fail("a sandbox", reply.brief())));
        }
        Sandbox::read(&reply.json().map_err(blocked)?).map_err(blocked)
    }

    /// A sandbox that other checks use too; keep to paths and processes of your own.
    ///
    /// # Errors
    /// Untestable when it cannot be created.
    pub async fn shared(&self) -> Result<Sandbox, Stop> {
        let shared = self
            .run
            .shared
            .get_or_init(|| self.fresh(json!({ "timeout": SHARED_LIFE })))
            .await
            .clone();
        if let Ok(sandbox) = &shared {
            self.keep(sandbox);
        }
        shared
    }

    /// A sandbox of the interpreter's template that other checks use too; keep to contexts of your own.
    ///
    /// # Errors
    /// Untestable when it cannot be created.
    pub async fn interpreter(&self) -> Result<Sandbox, Stop> {
        let template = &self.run.target.interpreter_template;
        let extra = json!({ "timeout": SHARED_LIFE, "templateID": template });
        let shared = self.run.interpreter.get_or_init(|| self.fresh(extra)).await;
        if let Ok(sandbox) = shared {
            self.keep(sandbox);
        }
        shared.clone()
    }

    /// The template that checks of builds share; the first of them builds it.
    ///
    /// # Errors
    /// What the first one came to.
    pub async fn built<F, Fut>(&self, build: F) -> Result<Built, Stop>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Built, Stop>>,
    {
        let built = self.run.built.get_or_init(build).await.clone();
        if let Ok(built) = &built {
            let path = built.delete_path();
            self.made().retain(|made| *made != path);
        }
        built
    }

    /// Never shows this in evidence.
    pub fn secret(&self, text: &str) {
        self.run.secrets.add(text);
    }

    /// Leaves a sandbox to the clean-up at the end of the run.
    fn keep(&self, sandbox: &Sandbox) {
        let path = ledger::sandbox(&sandbox.id);
        self.made().retain(|made| *made != path);
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills what the check made for itself, so that targets with few places are not filled.
    pub async fn tidy(&self) {
        let mut made = std::mem::take(&mut *self.made());
        // Sandboxes go before the snapshots that they were made from.
        made.sort();
        for path in made {
            let kill = self.api(Method::DELETE, &path);
            if let Ok(reply) = http1::exchange(&kill).await {
                self.run.ledger.note(&kill, &reply);
            }
        }
    }

    /// Kills a sandbox that is no longer needed; the clean-up would do it later.
    pub async fn done(&self, sandbox: &Sandbox) {
        let _ = self.delete(&format!("/sandboxes/{}", sandbox.id)).await;
    }

    /// Asks again and again until it gives something, or the time is over.
    ///
    /// # Errors
    /// When the time is over, or asking fails.
    pub async fn eventually<T, F, Fut>(
        &self,
        what: &str,
        limit: Duration,
        ask: F,
    ) -> Result<T, Stop>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Option<T>, Stop>>,
    {
        let since = Instant::now();
        loop {
            if let Some(got) = ask().await? {
                return Ok(got);
            }
            if since.elapsed() > limit {
                return Err(fail(format!("{what} within {limit:?}"), "it did not come"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a missing reply means.
#[must_use]
pub fn broken(error: &HttpError) -> Stop {
    if error.is_ours() {
        return Stop::Harness(error.to_string());
    }
    fail("an HTTP answer", error.to_string())
}

/// A word that nobody else uses: 12 letters and digits.
#[must_use]
pub fn unique() -> String {
    let mut bytes = [0u8; 12];
    // Without randomness there is no run; the clock is a poor but sufficient stand-in for a name.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = [7; 12];
    }
    bytes
        .iter()
        .map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(byte % 32)]))
        .collect()
}
