//! What a check is and how it can end.

use std::future::Future;
use std::pin::Pin;

use crate::context::Context;

/// A check's way of ending before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The target does not do what it must.
    Fail {
        /// What was expected.
        expected: String,
        /// What came.
        actual: String,
    },
    /// Something that the check needs first did not work; red, but not this check's finding.
    Untestable(String),
    /// The suite itself is at fault.
    Harness(String),
}

/// The target failed.
#[must_use]
pub fn fail(expected: impl Into<String>, actual: impl Into<String>) -> Stop {
    Stop::Fail {
        expected: expected.into(),
        actual: actual.into(),
    }
}

/// Fails unless it holds.
///
/// # Errors
/// When it does not.
pub fn expect(holds: bool, expected: impl Into<String>, actual: impl Into<String>) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(fail(expected, actual))
    }
}

/// Fails unless both are equal.
///
/// # Errors
/// When they are not.
pub fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    actual: &T,
    wanted: &T,
) -> Verdict {
    expect(
        actual == wanted,
        format!("{what}: {wanted:?}"),
        format!("{actual:?}"),
    )
}

impl Stop {
    /// The same, as a reason why a later step could not be tried.
    #[must_use]
    pub fn blocks(self, what: &str) -> Self {
        match self {
            Self::Fail { expected, actual } => {
                Self::Untestable(format!("{what}: expected {expected}, got {actual}"))
            }
            other => other,
        }
    }
}

/// How a check ended.
pub type Verdict = Result<(), Stop>;

/// A check at work.
pub type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One thing that is tried.
#[derive(Clone, Copy)]
pub struct Check {
    /// `area/name`; the same for pass and fail, and from release to release.
    pub id: &'static str,
    /// The faults of the bad server that this check must catch, each. There is no check without.
    pub faults: &'static [&'static str],
    /// What a conforming server does, in one sentence.
    pub title: &'static str,
    /// Whether `--quick` has it.
    pub quick: bool,
    /// Does it.
    pub run: fn(Context) -> Running,
}

impl Check {
    /// A check that is quick.
    #[must_use]
    pub const fn new(
        id: &'static str,
        faults: &'static [&'static str],
        title: &'static str,
        run: fn(Context) -> Running,
    ) -> Self {
        Self {
            id,
            faults,
            title,
            quick: true,
            run,
        }
    }

    /// The same, left out of `--quick`: it has to wait for something.
    #[must_use]
    pub const fn slow(mut self) -> Self {
        self.quick = false;
        self
    }

    /// The part of the id before the slash.
    #[must_use]
    pub fn area(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.id).finish()
    }
}
