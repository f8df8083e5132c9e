//! The list of requirements: data, one file per area, joined with the checks that cover them.
//!
//! ```toml
//! profile = "core lifecycle"            # the area's name for people
//!
//! [create]                              # a group; ids are area/group/name
//! source = "POST /v2/sandboxes"         # where its requirements come from, unless they say otherwise
//! status = { must = "A create answers 201.", checks = ["lifecycle/create-v2"] }
//! retry  = { should = "…", source = "…", uncovered = "why no check covers it" }
//! ```
//!
//! Exactly one of `must`, `should`, `may`; exactly one of `checks`, `uncovered` (a group may give `uncovered` for all of its
//! requirements without `checks`). MUST is an area's core, SHOULD and MAY are its extension.

use std::collections::{BTreeMap, BTreeSet};

pub use reports::model::conformance::Level;
use serde::Deserialize;

use crate::check::Check;

/// The files, in the order of reports.
const FILES: &[(&str, &str)] = &[
    ("lifecycle", include_str!("../requirements/lifecycle.toml")),
    ("auth", include_str!("../requirements/auth.toml")),
    ("errors", include_str!("../requirements/errors.toml")),
    ("process", include_str!("../requirements/process.toml")),
    ("pty", include_str!("../requirements/pty.toml")),
    (
        "filesystem",
        include_str!("../requirements/filesystem.toml"),
    ),
    ("watch", include_str!("../requirements/watch.toml")),
    ("files", include_str!("../requirements/files.toml")),
    ("proxy", include_str!("../requirements/proxy.toml")),
    (
        "interpreter",
        include_str!("../requirements/interpreter.toml"),
    ),
    ("pause", include_str!("../requirements/pause.toml")),
    ("snapshot", include_str!("../requirements/snapshot.toml")),
    ("network", include_str!("../requirements/network.toml")),
    ("metrics", include_str!("../requirements/metrics.toml")),
    ("templates", include_str!("../requirements/templates.toml")),
    ("volumes", include_str!("../requirements/volumes.toml")),
    (
        "uniqueness",
        include_str!("../requirements/uniqueness.toml"),
    ),
    ("isolation", include_str!("../requirements/isolation.toml")),
    ("sdk", include_str!("../requirements/sdk.toml")),
];

/// One testable statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// `area/group/name`; stable.
    pub id: String,
    /// How much it binds.
    pub level: Level,
    /// The statement.
    pub text: String,
    /// Where it comes from.
    pub source: String,
    /// Ids of the checks that cover it.
    pub checks: Vec<String>,
    /// Why none does.
    pub uncovered: Option<String>,
}

/// One area.
#[derive(Clone, Debug)]
pub struct Area {
    /// Its id: the first part of the ids of its requirements and checks.
    pub id: &'static str,
    /// Its name for people.
    pub profile: String,
    /// Its requirements.
    pub requirements: Vec<Requirement>,
}

/// What is wrong with the list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A file is not TOML; duplicate ids end up here too.
    #[error("{area}.toml: {source}")]
    Toml {
        /// Which.
        area: &'static str,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A requirement is not of the shape above.
    #[error("{0}: {1}")]
    Shape(String, &'static str),
    /// A requirement names a check that there is not.
    #[error("{requirement} names check {check}, which there is not")]
    NoCheck {
        /// Who names.
        requirement: String,
        /// What.
        check: String,
    },
    /// A check that no requirement names.
    #[error("check {0} covers no requirement")]
    Idle(&'static str),
    /// A check's area has no file.
    #[error("check {0} is of no area")]
    NoArea(&'static str),
    /// Two checks of one id.
    #[error("two checks are called {0}")]
    Twice(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    must: Option<String>,
    should: Option<String>,
    may: Option<String>,
    source: Option<String>,
    checks: Option<Vec<String>>,
    uncovered: Option<String>,
}

#[derive(Deserialize)]
struct Group {
    source: Option<String>,
    uncovered: Option<String>,
    #[serde(flatten)]
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct File {
    profile: String,
    #[serde(flatten)]
    groups: BTreeMap<String, Group>,
}

/// All requirements and all checks, joined.
#[derive(Clone, Debug)]
pub struct List {
    /// Areas in the order of reports.
    pub areas: Vec<Area>,
    /// Checks in the order of reports.
    pub checks: Vec<Check>,
}

impl List {
    /// The list that is built in.
    ///
    /// # Errors
    /// When it is not well-formed; the suite's own tests see to it that it is.
    pub fn load() -> Result<Self, ListError> {
        let areas = FILES
            .iter()
            .map(|(id, text)| area(id, text))
            .collect::<Result<Vec<_>, _>>()?;
        let list = Self {
            areas,
            checks: crate::checks::all(),
        };
        list.validate()?;
        Ok(list)
    }

    /// All requirements.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.areas.iter().flat_map(|area| &area.requirements)
    }

    /// Those that a check covers.
    #[must_use]
    pub fn covered_by(&self, check: &str) -> Vec<&Requirement> {
        self.requirements()
            .filter(|requirement| requirement.checks.iter().any(|id| id == check))
            .collect()
    }

    /// The strongest level of what a check covers.
    #[must_use]
    pub fn level(&self, check: &str) -> Level {
        self.covered_by(check)
            .iter()
            .map(|requirement| requirement.level)
            .min()
            .unwrap_or(Level::May)
    }

    fn validate(&self) -> Result<(), ListError> {
        let mut ids = BTreeSet::new();
        for check in &self.checks {
            if !ids.insert(check.id) {
                return Err(ListError::Twice(check.id));
            }
            if !self.areas.iter().any(|area| area.id == check.area()) {
                return Err(ListError::NoArea(check.id));
            }
        }
        let mut named = BTreeSet::new();
        for requirement in self.requirements() {
            for check in &requirement.checks {
                if !ids.contains(check.as_str()) {
                    return Err(ListError::NoCheck {
                        requirement: requirement.id.clone(),
                        check: check.clone(),
                    });
                }
                named.insert(check.as_str());
            }
        }
        match self.checks.iter().find(|check| !named.contains(check.id)) {
            Some(idle) => Err(ListError::Idle(idle.id)),
            None => Ok(()),
        }
    }
}

fn area(id: &'static str, text: &str) -> Result<Area, ListError> {
    let file: File = toml::from_str(text).map_err(|source| ListError::Toml {
        area: id,
        source: Box::new(source),
    })?;
    let mut requirements = Vec::new();
    for (name, group) in &file.groups {
        for (entry_name, entry) in &group.entries {
            requirements.push(requirement(
                format!("{id}/{name}/{entry_name}"),
                group,
                entry,
            )?);
        }
    }
    Ok(Area {
        id,
        profile: file.profile,
        requirements,
    })
}

fn requirement(id: String, group: &Group, entry: &Entry) -> Result<Requirement, ListError> {
    let wrong = |why| ListError::Shape(id.clone(), why);
    if !id.split('/').all(is_name) {
        return Err(wrong(
            "an id is made of lower-case letters, digits and hyphens",
        ));
    }
    let (level, text) = match (&entry.must, &entry.should, &entry.may) {
        (Some(text), None, None) => (Level::Must, text),
        (None, Some(text), None) => (Level::Should, text),
        (None, None, Some(text)) => (Level::May, text),
        _ => return Err(wrong("exactly one of must, should, may")),
    };
    if !text.ends_with('.') || text.len() < 12 {
        return Err(wrong("the statement is a sentence"));
    }
    let source = entry.source.as_ref().or(group.source.as_ref());
    let source = source
        .ok_or_else(|| wrong("a source is missing, here or for the group"))?
        .clone();
    let (checks, uncovered) = match (
        &entry.checks,
        entry.uncovered.as_ref().or(group.uncovered.as_ref()),
    ) {
        (Some(checks), _) if entry.uncovered.is_none() && !checks.is_empty() => {
            (checks.clone(), None)
        }
        (None, Some(why)) if !why.is_empty() => (Vec::new(), Some(why.clone())),
        _ => return Err(wrong("exactly one of checks, uncovered")),
    };
    Ok(Requirement {
        id,
        level,
        text: text.clone(),
        source,
        checks,
        uncovered,
    })
}

fn is_name(part: &str) -> bool {
    let first = part.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && part
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Area, String> {
        area(
            "x",
            &format!("profile = \"x\"\n[g]\nsource = \"s\"\n{text}"),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_built_in_list_is_well_formed() {
        let list = List::load().unwrap_or_else(|error| panic!("{error}"));
        assert!(
            list.requirements().count() >= 400,
            "{}",
            list.requirements().count()
        );
    }

    #[test]
    fn what_is_ill_formed_is_refused() {
        assert!(parsed("a = { must = \"It does so always.\", checks = [\"x/y\"] }").is_ok());
        for wrong in [
            "a = { must = \"It does so always.\" }",
            "a = { must = \"It does so always.\", checks = [] }",
            "a = { must = \"It does so always.\", may = \"It may do so.\", checks = [\"x/y\"] }",
            "a = { must = \"It does so always.\", checks = [\"x/y\"], uncovered = \"later\" }",
            "a = { must = \"not a sentence\", checks = [\"x/y\"] }",
            "A_b = { must = \"It does so always.\", checks = [\"x/y\"] }",
            "a = { must = \"It does so always.\", chekcs = [\"x/y\"] }",
            "a = { must = \"It is so.....\", checks = [\"x/y\"] }\na = { may = \"It is so.....\", checks = [\"x/y\"] }",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
