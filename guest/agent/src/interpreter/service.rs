//! All contexts of the sandbox, and how they are made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::control::Depth;
use uuid::Uuid;

use super::context::{Context, ContextInfo, ContextPlan};
use super::error::InterpreterError;
use super::execution;
use super::kernel::KernelConfig;
use super::kernelspec::{self, KernelSpec};
use super::languages;
use crate::paths;
use crate::process::environment;
use crate::process::launch::Launcher;
use crate::process::reaper::Reaper;
use crate::state::SharedState;
use crate::users::User;

/// The most contexts at a time; each costs a process.
const MAX_CONTEXTS: usize = 64;
/// Where kernels have their sockets.
pub const RUNTIME_DIR: &str = "/run/interpreter";
/// Of calls that choose neither context nor language.
const DEFAULT_LANGUAGE: &str = "python";

/// The code interpreter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interpreter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: SharedState,
    launcher: Launcher,
    reaper: Arc<Reaper>,
    runtime_dir: PathBuf,
    contexts: Mutex<Contexts>,
}

#[derive(Debug, Default)]
struct Contexts {
    /// In the order of their making.
    all: Vec<Arc<Context>>,
    /// Language to id of the context that is used when a call names none.
    defaults: HashMap<String, String>,
}

impl Contexts {
    fn find(&self, id: &str) -> Option<Arc<Context>> {
        self.all
            .iter()
            .find(|context| context.info.id == id)
            .cloned()
    }
}

impl Interpreter {
    /// An interpreter without contexts; kernels have their directories in `runtime_dir` (see [`RUNTIME_DIR`]).
    pub fn new(
        state: SharedState,
        launcher: Launcher,
        reaper: Arc<Reaper>,
        runtime_dir: impl Into<PathBuf>,
    ) -> Self {
        let contexts = Mutex::default();
        Self(Arc::new(Inner {
            state,
            launcher,
            reaper,
            runtime_dir: runtime_dir.into(),
            contexts,
        }))
    }

    /// Begins to start the default context's kernel, so that the first cell need not wait for it. Call it when the
    /// sandbox is configured; calling it again does nothing.
    pub fn prepare(&self) {
        let interpreter = self.clone();
        tokio::spawn(async move {
            if let Err(error) = interpreter.default_context(DEFAULT_LANGUAGE).await {
                tracing::warn!(%error, "the default context cannot be started");
            }
        });
    }

    /// Waits for the default context and runs in it what first cells of a sandbox usually begin with, so that it is
    /// loaded once for all sandboxes made from this machine's snapshot.
    ///
    /// # Errors
    /// The default context's kernel does not start, or the code fails.
    pub async fn warm_up(&self, depth: Depth) -> Result<(), InterpreterError> {
        let context = self.default_context(DEFAULT_LANGUAGE).await?;
        let incarnation = self.0.state.settings().incarnation;
        execution::warm_up(&context, depth, incarnation).await
    }

    pub(super) fn state(&self) -> &SharedState {
        &self.0.state
    }

    /// The context of that id.
    ///
    /// # Errors
    /// [`InterpreterError::UnknownContext`].
    pub fn context(&self, id: &str) -> Result<Arc<Context>, InterpreterError> {
        let found = self.lock().find(id);
        found.ok_or_else(|| InterpreterError::UnknownContext(id.to_owned()))
    }

    /// The shared context of a language, made when there is none.
    ///
    /// # Errors
    /// As [`Interpreter::create`].
    pub async fn default_context(&self, language: &str) -> Result<Arc<Context>, InterpreterError> {
        let language = languages::normalize(language);
        let known = |contexts: &Contexts| {
            contexts
                .defaults
                .get(&language)
                .and_then(|id| contexts.find(id))
        };
        if let Some(context) = known(&self.lock()) {
            return Ok(context);
        }
        let info = self.describe(&language, None).await?;
        let mut contexts = self.lock();
        // Somebody may have made it meanwhile.
        if let Some(context) = known(&contexts) {
            return Ok(context);
        }
        let context = self.add(&mut contexts, info)?;
        contexts.defaults.insert(language, context.info.id.clone());
        Ok(context)
    }

    /// Makes a context and waits until its kernel answers.
    ///
    /// # Errors
    /// No kernel for the language, an unusable directory, too many contexts, a kernel that does not start.
    pub async fn create(
        &self,
        language: &str,
        cwd: Option<&str>,
    ) -> Result<Arc<Context>, InterpreterError> {
        let info = self.describe(&languages::normalize(language), cwd).await?;
        let context = self.add(&mut self.lock(), info)?;
        if let Err(error) = context.ready().await {
            self.delete(&context.info.id).await?;
            return Err(error);
        }
        Ok(context)
    }

    /// What clients see of all contexts, oldest first.
    pub fn list(&self) -> Vec<ContextInfo> {
        self.lock()
            .all
            .iter()
            .map(|context| context.info.clone())
            .collect()
    }

    /// Deletes a context. A default context comes back when it is needed.
    ///
    /// # Errors
    /// [`InterpreterError::UnknownContext`].
    pub async fn delete(&self, id: &str) -> Result<(), InterpreterError> {
        let context = self.context(id)?;
        {
            let mut contexts = self.lock();
            contexts.all.retain(|other| other.info.id != id);
            contexts.defaults.retain(|_, default| default != id);
        }
        context.delete().await;
        Ok(())
    }

    fn add(
        &self,
        contexts: &mut Contexts,
        info: ContextInfo,
    ) -> Result<Arc<Context>, InterpreterError> {
        if contexts.all.len() >= MAX_CONTEXTS {
            return Err(InterpreterError::TooManyContexts(contexts.all.len()));
        }
        let inner = Arc::downgrade(&self.0);
        let plan = ContextPlan {
            launcher: self.0.launcher.clone(),
            reaper: Arc::clone(&self.0.reaper),
            config: Box::new(move |info| match inner.upgrade() {
                Some(inner) => inner.configure(info),
                None => Err(InterpreterError::UnknownContext(info.id.clone())),
            }),
        };
        let context = Context::create(info, plan);
        contexts.all.push(Arc::clone(&context));
        Ok(context)
    }

    /// Checks that there is a kernel for the language, and finds the directory.
    async fn describe(
        &self,
        language: &str,
        cwd: Option<&str>,
    ) -> Result<ContextInfo, InterpreterError> {
        let (user, search_path) = self.0.user_and_path()?;
        let settings = self.0.state.settings();
        let cwd = cwd.unwrap_or_default();
        let cwd = paths::resolve(cwd, &user, settings.default_workdir.as_deref())?;
        let wanted = language.to_owned();
        let found = tokio::task::spawn_blocking(move || find(&wanted, &user, &search_path));
        found
            .await
            .unwrap_or_else(|error| Err(InterpreterError::Request(error.to_string())))?;
        Ok(ContextInfo {
            id: Uuid::new_v4().to_string(),
            language: language.to_owned(),
            cwd: cwd.to_string_lossy().into_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Contexts> {
        self.0
            .contexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The default user, and the `PATH` that its programs see.
    fn user_and_path(&self) -> Result<(User, String), InterpreterError> {
        let settings = self.state.settings();
        let user = self.state.users().by_name(&settings.default_user)?;
        let env = environment::merge(&user, &settings.env, []);
        Ok((user, env.get("PATH").cloned().unwrap_or_default()))
    }

    /// What a context's kernel is started with, as of now.
    fn configure(&self, info: &ContextInfo) -> Result<KernelConfig, InterpreterError> {
        let (user, search_path) = self.user_and_path()?;
        let settings = self.state.settings();
        Ok(KernelConfig {
            spec: find(&info.language, &user, &search_path)?,
            user,
            env: settings.env.clone(),
            incarnation: settings.incarnation,
            cwd: PathBuf::from(&info.cwd),
            runtime_dir: self.runtime_dir.clone(),
        })
    }
}

fn find(language: &str, user: &User, search_path: &str) -> Result<KernelSpec, InterpreterError> {
    let home = Path::new(&user.home);
    kernelspec::find(language, home, search_path).ok_or_else(|| {
        let installed = kernelspec::installed(home, search_path);
        InterpreterError::NoKernel {
            language: language.to_owned(),
            installed: if installed.is_empty() {
                "none".to_owned()
            } else {
                installed.join(", ")
            },
        }
    })
}
