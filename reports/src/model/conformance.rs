//! Body of a conformance report.
//!
//! ```text
//!  profile (area) ── core: checks of MUST requirements · extended: of SHOULD and MAY
//!     └─ outcome of a check ── requirements that it covers, expected, actual, exchanges, the command to run it again
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Body, Report};

/// How much a requirement binds. The strongest is the least.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Clients break without it.
    Must,
    /// Clients or people are worse off without it.
    Should,
    /// Allowed, and clients can bear both.
    May,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// What a result is against the vendor's list of known failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing was expected of it but to pass.
    Fine,
    /// A listed failure.
    Known,
    /// A failure that is not listed.
    New,
    /// Listed as a failure, but it passes: the list is out of date.
    Stale,
    /// Not of the set that the run counts: shown, not scored.
    Unscored,
}

/// One request and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Method, address and path.
    pub request: String,
    /// `name: value` lines.
    pub request_headers: Vec<String>,
    /// Body, cut.
    pub request_body: String,
    /// Status; none without an answer.
    pub status: Option<u16>,
    /// `name: value` lines.
    pub response_headers: Vec<String>,
    /// Body, cut.
    pub response_body: String,
    /// Why there was no answer.
    pub error: Option<String>,
    /// Milliseconds from the request to the end of the answer, or to its head where it is a stream.
    pub ms: f64,
}

/// How a check ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The target does what it must.
    Pass,
    /// It does not.
    Fail,
    /// The target declared not to support it.
    Unsupported,
    /// Something that the check needs first did not work.
    Untestable,
    /// The suite itself is at fault.
    HarnessError,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
            Self::Untestable => "untestable",
            Self::HarnessError => "harness error",
        })
    }
}

/// A requirement as a result names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Covered {
    /// Id.
    pub id: String,
    /// Level.
    pub level: Level,
    /// Statement.
    pub text: String,
    /// Source.
    pub source: String,
}

/// One check's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The check.
    pub check: String,
    /// Its area.
    pub area: String,
    /// The strongest level of what it covers.
    pub level: Level,
    /// What a conforming server does.
    pub title: String,
    /// How it ended.
    pub status: Status,
    /// Against the list of expected failures.
    pub standing: Standing,
    /// The vendor's reason for a known failure.
    pub known_reason: Option<String>,
    /// What was expected, where it failed.
    pub expected: Option<String>,
    /// What came, where it failed; the reason, where it could not be tried.
    pub actual: Option<String>,
    /// Milliseconds that it took.
    pub ms: f64,
    /// What it covers.
    pub requirements: Vec<Covered>,
    /// What went over the wire; kept where it did not pass.
    pub exchanges: Vec<Exchange>,
    /// The command that runs just this check again.
    pub rerun: String,
}

/// Counts of an area, core and extension apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StatusCounts")]
pub struct Counts {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Declared not to be supported.
    pub unsupported: usize,
    /// Could not be tried.
    pub untestable: usize,
    /// The suite's own errors.
    pub harness_error: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, status: Status) {
        match status {
            Status::Pass => self.pass += 1,
            Status::Fail => self.fail += 1,
            Status::Unsupported => self.unsupported += 1,
            Status::Untestable => self.untestable += 1,
            Status::HarnessError => self.harness_error += 1,
        }
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.pass + self.fail + self.unsupported + self.untestable + self.harness_error
    }
}

/// One area's summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Area.
    pub area: String,
    /// Its name.
    pub name: String,
    /// Checks of MUST requirements.
    pub core: Counts,
    /// Checks of SHOULD and MAY requirements.
    pub extended: Counts,
    /// Requirements of the area.
    pub requirements: usize,
    /// Those that a check covers.
    pub covered: usize,
}

/// What a conformance suite found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conformance {
    /// Areas and checks that were declared not to be supported.
    pub unsupported: Vec<String>,
    /// Requirements in all.
    pub requirements: usize,
    /// Those that a check covers.
    pub covered: usize,
    /// Checks that were left out by selection.
    pub not_selected: usize,
    /// Sandboxes that could not be killed.
    pub left_behind: Vec<String>,
    /// Summary by area.
    pub profiles: Vec<Profile>,
    /// All results.
    pub results: Vec<Outcome>,
}

impl Body for Conformance {
    const KIND: &'static str = "conformance";
}

impl Conformance {
    /// Results of a status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.results
            .iter()
            .filter(|result| result.status == status)
            .count()
    }

    /// Results that make a run red: new failures and stale entries of MUST checks, of all when strict.
    #[must_use]
    pub fn red(&self, strict: bool) -> Vec<&Outcome> {
        self.results
            .iter()
            .filter(|result| match result.standing {
                Standing::Stale => true,
                Standing::New => strict || result.level == Level::Must,
                Standing::Fine | Standing::Known | Standing::Unscored => false,
            })
            .collect()
    }
}

/// A run of a conformance suite.
pub type ConformanceReport = Report<Conformance>;
