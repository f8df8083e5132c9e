//! The result schema: one envelope, one body per kind.
//!
//! ```text
//!  { schema: 1, kind: "load",                        what it is
//!    tool, run, command, seed,                       who made it, and how to make it again
//!    started_at, ended_at, interrupted,              when
//!    target, environment,                            against what, on what
//!    body: { … } }                                   what was found; its type is the kind's
//! ```
//!
//! Rules: times are integers in nanoseconds and end in `_ns`, sizes are bytes and end in `_bytes`; instants are RFC 3339.
//! Unknown members are refused: a reader that skips what it doesn't know shows half a report as a whole one. A new member
//! or a new meaning makes a new version.

pub mod conformance;
pub mod environment;
pub mod load;
pub mod peers;
pub mod sample;
pub mod schema;
pub mod tag;
pub mod verdicts;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::conformance::Conformance;
pub use self::environment::{Environment, Machine, Virtualization};
pub use self::load::Load;
pub use self::peers::Peers;
pub use self::sample::Sample;
pub use self::tag::{Tag, Version};
pub use self::verdicts::Verdicts;

/// What a report can be of.
pub trait Body: Serialize + DeserializeOwned + JsonSchema {
    /// The word that stands for it in `kind`.
    const KIND: &'static str;
}

/// One run of one tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    bound(serialize = "B: Body", deserialize = "B: Body")
)]
#[schemars(bound = "B: Body", rename = "{B}Report")]
pub struct Report<B> {
    /// Version of the schema.
    pub schema: Version,
    /// What it is of.
    pub kind: Tag<B>,
    /// Who made it.
    pub tool: Tool,
    /// Name of the run: its sandboxes carry it.
    pub run: String,
    /// The command line, without keys.
    pub command: Vec<String>,
    /// Seed of everything random in it.
    pub seed: Option<u64>,
    /// When it began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub ended_at: Timestamp,
    /// Whether it was cut short: results are missing.
    pub interrupted: bool,
    /// What was measured or tested.
    pub target: Target,
    /// Where.
    pub environment: Environment,
    /// What was found.
    pub body: B,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Commit that it was built from, with `-dirty` where there were changes; none where that isn't known.
    pub git_revision: Option<String>,
}

impl Tool {
    /// The running program: name and version as its crate has them.
    #[must_use]
    pub fn this(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            git_revision: crate::probe::revision(),
        }
    }
}

/// What was measured or tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What people call it, where someone said so: a product, a build, `A` or `B`.
    pub name: Option<String>,
    /// Address of its API.
    pub url: String,
    /// Template of the sandboxes.
    pub template: String,
    /// What it says of its own versions, such as `envd`.
    pub versions: BTreeMap<String, String>,
}

impl<B: Body> Report<B> {
    /// Seconds from begin to end; zero where the clock went back.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.ended_at
            .duration_since(self.started_at)
            .as_secs_f64()
            .max(0.0)
    }

    /// The command as one line for a shell.
    #[must_use]
    pub fn command_line(&self) -> String {
        command_line(&self.command)
    }
}

/// Words as one line for a shell.
#[must_use]
pub fn command_line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+…".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(
            quoted("--url=http://127.0.0.1:3000"),
            "--url=http://127.0.0.1:3000"
        );
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
