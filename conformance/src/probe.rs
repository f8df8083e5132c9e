//! The suite's probe in a sandbox: a Python script that says what a program there sees and reaches.

use serde_json::{Value, json};

use crate::check::Stop;
use crate::context::{Context, unique};
use crate::sandbox::{Done, Sandbox};
use crate::wire::reply::number;

/// The script; needs python3 and its standard library.
const SCRIPT: &str = include_str!("../assets/probe.py");

/// A sandbox with the probe in it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The sandbox.
    pub sandbox: Sandbox,
    path: String,
}

impl Probe {
    /// Puts the probe into a sandbox.
    ///
    /// # Errors
    /// Untestable when that fails.
    pub async fn put(c: &Context, sandbox: Sandbox) -> Result<Self, Stop> {
        let path = format!("/tmp/probe-{}.py", unique());
        sandbox.put(c, &path, SCRIPT.as_bytes()).await?;
        Ok(Self { sandbox, path })
    }

    /// Puts the probe into a sandbox of the check's own.
    ///
    /// # Errors
    /// Untestable when there is none.
    pub async fn fresh(c: &Context, extra: Value) -> Result<Self, Stop> {
        let sandbox = c.fresh(extra).await?;
        Self::put(c, sandbox).await
    }

    /// Puts the probe into the sandbox that checks share.
    ///
    /// # Errors
    /// Untestable when there is none.
    pub async fn shared(c: &Context) -> Result<Self, Stop> {
        let sandbox = c.shared().await?;
        Self::put(c, sandbox).await
    }

    /// The same probe in a clone of the sandbox.
    #[must_use]
    pub fn in_clone(&self, sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            path: self.path.clone(),
        }
    }

    /// Runs the probe, whatever becomes of it.
    ///
    /// # Errors
    /// When the process cannot be started or its stream breaks.
    pub async fn run(&self, c: &Context, args: &[&str], user: Option<&str>) -> Result<Done, Stop> {
        let command = format!("python3 {} {}", self.path, args.join(" "));
        self.sandbox.run_with(c, &command, json!({}), user).await
    }

    /// What the probe says.
    ///
    /// # Errors
    /// Untestable when it does not run.
    pub async fn ask(&self, c: &Context, args: &[&str]) -> Result<Value, Stop> {
        self.ask_as(c, args, None).await
    }

    /// The same as another user.
    ///
    /// # Errors
    /// Untestable when it does not run.
    pub async fn ask_as(
        &self,
        c: &Context,
        args: &[&str],
        user: Option<&str>,
    ) -> Result<Value, Stop> {
        let done = self
            .run(c, args, user)
            .await
            .map_err(|stop| stop.blocks("the probe did not run"))?;
        serde_json::from_slice(&done.stdout).map_err(|_| {
            let errors = String::from_utf8_lossy(&done.stderr).into_owned();
            let last: String = errors
                .lines()
                .last()
                .unwrap_or("")
                .chars()
                .take(300)
                .collect();
            Stop::Untestable(format!(
                "the probe did not run in the sandbox (is python3 in the template?): {last}"
            ))
        })
    }

    /// A size from the API's detail of the sandbox.
    ///
    /// # Errors
    /// When the API does not give it.
    pub async fn stated(&self, c: &Context, name: &str) -> Result<u64, Stop> {
        let path = format!("/sandboxes/{}", self.sandbox.id);
        let detail = c.get(&path).await?.status(200)?.json()?;
        number(&detail, name)
    }
}
