//! What a run yields. The JSON form is public: `schema/report.schema.json`.

use serde::{Deserialize, Serialize};

use crate::evidence::Exchange;
use crate::expected::Standing;
use crate::requirements::{Level, List};

/// Version of the JSON form.
pub const FORMAT: u32 = 1;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    fn add(&mut self, status: Status) {
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What was tested.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// Address of the API.
    pub url: String,
    /// Template.
    pub template: String,
    /// Version of the agent in its sandboxes.
    pub envd_version: String,
    /// Areas and checks declared not to be supported.
    pub unsupported: Vec<String>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// Version of the suite.
    pub suite: String,
    /// Name of the run: value of the label on its sandboxes.
    pub run: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// What was tested.
    pub target: Tested,
    /// The command line, without the key.
    pub reproduce: String,
    /// Whether it was interrupted: results are missing.
    pub interrupted: bool,
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

impl Report {
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

/// The summaries of the areas that have results.
#[must_use]
pub fn profiles(list: &List, results: &[Outcome]) -> Vec<Profile> {
    list.areas
        .iter()
        .filter_map(|area| {
            let (mut core, mut extended) = (Counts::default(), Counts::default());
            let scored = |result: &&Outcome| result.standing != Standing::Unscored;
            for result in results
                .iter()
                .filter(|result| result.area == area.id)
                .filter(scored)
            {
                if result.level == Level::Must {
                    core.add(result.status);
                } else {
                    extended.add(result.status);
                }
            }
            let covered = area
                .requirements
                .iter()
                .filter(|requirement| !requirement.checks.is_empty());
            (core.total() + extended.total() > 0).then(|| Profile {
                area: area.id.to_owned(),
                name: area.profile.clone(),
                core,
                extended,
                requirements: area.requirements.len(),
                covered: covered.count(),
            })
        })
        .collect()
}
