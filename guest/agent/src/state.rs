//! What the agent knows about its sandbox, shared by every service.
//!
//! ```text
//!   booted ──configure──▶ configured ──configure / POST /init──▶ configured (other settings)
//! ```
//!
//! [`Settings`] is an immutable value; a change swaps in a new one. A request takes one [`AgentState::settings`] at its
//! start and keeps to it, so that it never sees half of a change. Before the first `configure` the services answer
//! 503 (except `GET /health`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use subtle::ConstantTimeEq;

use crate::users::UserDb;

/// The state as services hold it.
pub type SharedState = Arc<AgentState>;

/// User that runs processes when neither the call nor the template names one (E2B: `user`).
pub const DEFAULT_USER: &str = "user";

/// Access token of the sandbox. Compared in constant time, never printed.
#[derive(Clone)]
pub struct AccessToken(String);

impl AccessToken {
    /// Takes a token; the empty string is no token.
    #[must_use]
    pub fn new(token: String) -> Option<Self> {
        (!token.is_empty()).then_some(Self(token))
    }

    /// Whether `candidate` is this token, in time that depends on the lengths only.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// The token itself, for signatures and for handing it to another service.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// Settings of a sandbox, as of one moment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether `configure` has been called.
    pub configured: bool,
    /// How often `configure` has been called. A machine that was cloned or put back is configured anew, and what was
    /// random before must then become so again.
    pub incarnation: u64,
    /// Sandbox id; empty before `configure`.
    pub sandbox_id: String,
    /// Template id; empty before `configure`.
    pub template_id: String,
    /// Token that clients must send; `None` leaves the services open.
    pub access_token: Option<AccessToken>,
    /// Global environment of user processes, the `E2B_*` variables included.
    pub env: BTreeMap<String, String>,
    /// User of calls that name none.
    pub default_user: String,
    /// Working directory of calls that name none; `None` means the user's home.
    pub default_workdir: Option<String>,
    /// Whether the code interpreter is served on port 49999.
    pub code_interpreter: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            configured: false,
            incarnation: 0,
            sandbox_id: String::new(),
            template_id: String::new(),
            access_token: None,
            env: BTreeMap::new(),
            default_user: DEFAULT_USER.to_owned(),
            default_workdir: None,
            code_interpreter: false,
        }
    }
}

/// State of the agent: settings that change, and the root that user databases are read under.
#[derive(Debug)]
pub struct AgentState {
    root: PathBuf,
    settings: RwLock<Arc<Settings>>,
}

impl AgentState {
    /// A state before `configure`. `root` is the directory under which `etc/passwd` and `etc/group` lie: `/` for the
    /// agent itself, a scratch directory in tests.
    pub fn new(root: impl Into<PathBuf>) -> SharedState {
        Self::with_settings(root, Settings::default())
    }

    /// A state with given settings.
    pub fn with_settings(root: impl Into<PathBuf>, settings: Settings) -> SharedState {
        Arc::new(Self {
            root: root.into(),
            settings: RwLock::new(Arc::new(settings)),
        })
    }

    /// The settings of this moment.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings by what `change` makes of the present ones; changes are serialized.
    pub fn update<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        let mut guard = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut next = Settings::clone(&guard);
        let result = change(&mut next);
        *guard = Arc::new(next);
        result
    }

    /// Directory under which `etc/passwd` and `etc/group` lie.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The users and groups as they are now.
    #[must_use]
    pub fn users(&self) -> UserDb {
        UserDb::load(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_compared_whole_and_not_printed() {
        let token = AccessToken::new("secret".into()).expect("not empty");
        assert!(token.matches(b"secret"));
        assert!(!token.matches(b"secre"));
        assert!(!token.matches(b"secret "));
        assert!(!token.matches(b""));
        assert!(!format!("{token:?}").contains("secret"));
        assert!(AccessToken::new(String::new()).is_none());
    }

    #[test]
    fn a_snapshot_is_untouched_by_later_changes() {
        let state = AgentState::new("/");
        let before = state.settings();
        state.update(|s| s.configured = true);
        assert!(!before.configured);
        assert!(state.settings().configured);
    }
}
