//! Frozen sets: the checks that a claim counts, fixed at a day and for versions of the SDKs.
//!
//! ```toml
//! frozen = "2026-11-25"                      # the day; the file's name begins with it
//! clients = ["PyPI e2b 2.63.0", …]           # what the checks were written by
//! checks = ["lifecycle/create-v2", …]        # ids, sorted
//! ```
//!
//! With `--set NAME` every selected check is run and shown, but only those of the set are scored: a check that came later
//! never turns a past pass red. A set is never changed; a later one stands beside it. Ids of a set stay ids of checks.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The files, oldest first.
const FILES: &[(&str, &str)] = &[
    (
        "2026-11-25-first-areas",
        include_str!("../sets/2026-11-25-first-areas.toml"),
    ),
    (
        "2026-11-25-all-areas",
        include_str!("../sets/2026-11-25-all-areas.toml"),
    ),
];

/// One set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name: its file's.
    pub name: &'static str,
    /// The day it was frozen.
    pub frozen: String,
    /// Versions of the clients that its checks were written by.
    pub clients: Vec<String>,
    /// Its checks.
    pub checks: BTreeSet<String>,
}

/// What is wrong with the sets.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A file is not of the form above.
    #[error("sets/{name}.toml: {source}")]
    Toml {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A check that there is not.
    #[error("sets/{name}.toml names {check}, which there is not; a frozen set's checks stay")]
    NoCheck {
        /// Which.
        name: &'static str,
        /// What.
        check: String,
    },
    /// No such set.
    #[error("there is no set `{wanted}`; there are {known}")]
    NoSet {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    frozen: String,
    clients: Vec<String>,
    checks: BTreeSet<String>,
}

/// All sets, oldest first.
///
/// # Errors
/// When one is not well-formed or names a check that there is not; the suite's own tests see to it that none does.
pub fn all(known: impl Fn(&str) -> bool) -> Result<Vec<Set>, SetError> {
    FILES
        .iter()
        .map(|(name, text)| read(name, text, &known))
        .collect()
}

/// The set of a name.
///
/// # Errors
/// When there is none, or the sets are not well-formed.
pub fn named(wanted: &str, known: impl Fn(&str) -> bool) -> Result<Set, SetError> {
    let sets = all(known)?;
    let names: Vec<&str> = sets.iter().map(|set| set.name).collect();
    let missing = SetError::NoSet {
        wanted: wanted.to_owned(),
        known: names.join(", "),
    };
    sets.into_iter()
        .find(|set| set.name == wanted)
        .ok_or(missing)
}

fn read(name: &'static str, text: &str, known: impl Fn(&str) -> bool) -> Result<Set, SetError> {
    let file: File = toml::from_str(text).map_err(|source| SetError::Toml {
        name,
        source: Box::new(source),
    })?;
    if let Some(check) = file.checks.iter().find(|check| !known(check)) {
        return Err(SetError::NoCheck {
            name,
            check: check.clone(),
        });
    }
    Ok(Set {
        name,
        frozen: file.frozen,
        clients: file.clients,
        checks: file.checks,
    })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn sets() -> Vec<Set> {
        let checks = crate::checks::all();
        all(|id| checks.iter().any(|check| check.id == id))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_check_of_a_frozen_set_still_exists() {
        for set in sets() {
            assert!(
                !set.checks.is_empty() && !set.clients.is_empty(),
                "{}",
                set.name
            );
            assert!(set.name.starts_with(&set.frozen), "{}", set.name);
        }
        let lost = read(
            "x",
            "frozen = \"x\"\nclients = []\nchecks = [\"no/such\"]",
            |_| false,
        );
        assert!(matches!(lost, Err(SetError::NoCheck { .. })));
        let odd = read(
            "x",
            "frozen = \"x\"\nclients = []\nchecks = []\nmore = 1",
            |_| true,
        );
        assert!(matches!(odd, Err(SetError::Toml { .. })));
    }

    /// What was frozen stays as it was: the snapshot of an old set never changes, a new set adds a line.
    #[test]
    fn frozen_sets_do_not_change() {
        let lines: Vec<String> = sets()
            .iter()
            .map(|set| {
                let ids: Vec<&str> = set.checks.iter().map(String::as_str).collect();
                let sum = Sha256::digest(ids.join("\n"));
                let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{} {} checks {sum}", set.name, ids.len())
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn every_file_is_built_in() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sets");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|file| {
                file.unwrap()
                    .path()
                    .file_stem()?
                    .to_str()
                    .map(str::to_owned)
            })
            .collect();
        let built: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, built);
    }
}
