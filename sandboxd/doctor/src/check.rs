//! What a report is made of, and the rule that turns checks into a verdict.
//!
//! ```text
//! Check ──┐
//! Check ──┼─► Report::from_checks ─► usable, verdict
//! Check ──┘        (pure)
//! ```
//!
//! The rule is short: a host is usable when no check failed. A check may only fail over something
//! without which the daemon, started with its defaults, cannot serve a sandbox; everything that
//! merely costs speed, density or hygiene warns.

use serde::{Deserialize, Serialize};

use crate::mode::VirtualizationMode;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but slower, denser or less safe than it could.
    Warn,
    /// Sandboxes cannot be served while this holds.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Stable name, lower case, words joined by `-`; probe stages are `probe:<stage>`.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was seen on this host.
    pub found: String,
    /// Why it matters, or what the finding means.
    pub reason: String,
    /// What to do about it; absent when nothing is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A check that is as it should be.
    pub fn ok(name: &str, found: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found, reason, None)
    }

    /// A check that works with a drawback.
    pub fn warn(
        name: &str,
        found: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(name, Status::Warn, found, reason, Some(remedy.into()))
    }

    /// A check that keeps the host from serving.
    pub fn fail(
        name: &str,
        found: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(name, Status::Fail, found, reason, Some(remedy.into()))
    }

    fn new(
        name: &str,
        status: Status,
        found: impl Into<String>,
        reason: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            status,
            found: found.into(),
            reason: reason.into(),
            remedy,
        }
    }
}

/// Everything the doctor found, with the verdict drawn from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether microVMs can be served directly on this host.
    pub usable: bool,
    /// How the host is virtualized, as far as the evidence goes.
    pub mode: VirtualizationMode,
    /// One sentence for a person.
    pub verdict: String,
    /// Each finding, in the order it was made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Draws the verdict from the checks: usable when none failed.
    #[must_use]
    pub fn from_checks(mode: VirtualizationMode, checks: Vec<Check>) -> Self {
        let failed: Vec<&str> = checks
            .iter()
            .filter(|check| check.status == Status::Fail)
            .map(|check| check.name.as_str())
            .collect();
        let usable = failed.is_empty();
        let verdict = if usable {
            match checks.iter().filter(|c| c.status == Status::Warn).count() {
                0 => format!("This host can run microVMs directly ({mode})."),
                1 => format!("This host can run microVMs directly ({mode}), with 1 warning."),
                n => format!("This host can run microVMs directly ({mode}), with {n} warnings."),
            }
        } else {
            format!(
                "This host cannot run microVMs directly ({mode}); failed: {}. {LAB_HINT}",
                failed.join(", ")
            )
        };
        Self {
            usable,
            mode,
            verdict,
            checks,
        }
    }
}

/// What to do where `/dev/kvm` does not serve.
pub const LAB_HINT: &str =
    "Use the lab host, an emulated machine with full KVM: `cargo xtask up --lab`.";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(status: Status) -> Check {
        match status {
            Status::Ok => Check::ok("a", "x", "y"),
            Status::Warn => Check::warn("b", "x", "y", "z"),
            Status::Fail => Check::fail("c", "x", "y", "z"),
        }
    }

    #[test]
    fn one_failure_makes_the_host_unusable_and_names_the_lab() {
        let report = Report::from_checks(
            VirtualizationMode::Paravirtual,
            vec![check(Status::Ok), check(Status::Fail), check(Status::Warn)],
        );
        assert!(!report.usable);
        insta::assert_snapshot!(report.verdict, @"This host cannot run microVMs directly (paravirtual KVM); failed: c. Use the lab host, an emulated machine with full KVM: `cargo xtask up --lab`.");
    }

    #[test]
    fn warnings_are_counted_but_do_not_block() {
        let report = Report::from_checks(
            VirtualizationMode::Hardware,
            vec![check(Status::Warn), check(Status::Warn)],
        );
        assert!(report.usable);
        insta::assert_snapshot!(report.verdict, @"This host can run microVMs directly (hardware virtualization), with 2 warnings.");
    }

    #[test]
    fn json_shape() {
        let report = Report::from_checks(VirtualizationMode::Nested, vec![check(Status::Warn)]);
        insta::assert_json_snapshot!(report, @r#"
        {
          "usable": true,
          "mode": "nested",
          "verdict": "This host can run microVMs directly (nested hardware virtualization), with 1 warning.",
          "checks": [
            {
              "name": "b",
              "status": "warn",
              "found": "x",
              "reason": "y",
              "remedy": "z"
            }
          ]
        }
        "#);
    }

    proptest! {
        #[test]
        fn usable_exactly_when_nothing_failed(
            statuses in prop::collection::vec(
                prop_oneof![Just(Status::Ok), Just(Status::Warn), Just(Status::Fail)], 0..20)
        ) {
            let report = Report::from_checks(
                VirtualizationMode::Unknown,
                statuses.iter().copied().map(check).collect(),
            );
            prop_assert_eq!(report.usable, !statuses.contains(&Status::Fail));
            let text = serde_json::to_string(&report).unwrap();
            prop_assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        }
    }
}
