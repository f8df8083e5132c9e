//! The failures that a vendor knows of. The file is the vendor's: `"check id" = "reason"`, one a line.
//!
//! ```text
//!              listed          not listed
//!  passes      stale: red      fine
//!  fails       known: fine     new: red
//! ```

use std::collections::BTreeMap;

pub use reports::model::conformance::Standing;

use crate::report::Status;

/// The listed failures, with reasons.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    reasons: BTreeMap<String, String>,
}

/// What is wrong with the list.
#[derive(Debug, thiserror::Error)]
pub enum ExpectedError {
    /// Not of the form above.
    #[error("the expected-failures file is not a list of `\"check\" = \"reason\"`: {0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// A check that there is not.
    #[error("the expected-failures file lists {0}, which this version has no check for")]
    Unknown(String),
    /// A failure without a reason.
    #[error("the expected-failures file gives no reason for {0}")]
    NoReason(String),
}

impl Expected {
    /// Reads a list.
    ///
    /// # Errors
    /// See [`ExpectedError`].
    pub fn read(text: &str, known: impl Fn(&str) -> bool) -> Result<Self, ExpectedError> {
        let reasons: BTreeMap<String, String> = toml::from_str(text).map_err(Box::new)?;
        for (check, reason) in &reasons {
            if !known(check) {
                return Err(ExpectedError::Unknown(check.clone()));
            }
            if reason.trim().is_empty() {
                return Err(ExpectedError::NoReason(check.clone()));
            }
        }
        Ok(Self { reasons })
    }

    /// The reason for a listed failure.
    #[must_use]
    pub fn reason(&self, check: &str) -> Option<&str> {
        self.reasons.get(check).map(String::as_str)
    }

    /// What a result is against the list.
    #[must_use]
    pub fn standing(&self, check: &str, status: Status) -> Standing {
        match (status, self.reasons.contains_key(check)) {
            (Status::Pass, true) => Standing::Stale,
            (Status::Fail | Status::Untestable, true) => Standing::Known,
            (Status::Fail | Status::Untestable | Status::HarnessError, _) => Standing::New,
            (Status::Pass | Status::Unsupported, _) => Standing::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let list = Expected::read("\"a/b\" = \"issue 7\"", |_| true).unwrap();
        assert_eq!(list.standing("a/b", Status::Pass), Standing::Stale);
        assert_eq!(list.standing("a/b", Status::Fail), Standing::Known);
        assert_eq!(list.standing("a/c", Status::Pass), Standing::Fine);
        assert_eq!(list.standing("a/c", Status::Fail), Standing::New);
        assert_eq!(list.standing("a/c", Status::Untestable), Standing::New);
        // A broken suite is nobody's known failure.
        assert_eq!(list.standing("a/b", Status::HarnessError), Standing::New);
    }

    #[test]
    fn lists_that_cannot_be_right_are_refused() {
        assert!(Expected::read("\"a/b\" = \"\"", |_| true).is_err());
        assert!(Expected::read("\"a/b\" = \"x\"", |_| false).is_err());
        assert!(Expected::read("a/b", |_| true).is_err());
    }
}
