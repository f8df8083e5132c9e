//! The SDK versions, from `scenarios/pins.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Language of an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// `e2b` and `e2b-code-interpreter` of PyPI, in a venv.
    Python,
    /// `e2b` and `@e2b/code-interpreter` of npm, in a node project.
    Js,
}

/// What an unmodified SDK reads to find its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// `E2B_API_URL` and `E2B_SANDBOX_URL`.
    Urls,
    /// Only `E2B_DOMAIN`, always over TLS.
    Domain,
}

/// One installation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its name, as in ids of checks.
    #[serde(skip)]
    pub name: String,
    /// Language.
    pub language: Language,
    /// 1 first 1.x, 2 last 1.x, 3 2.0, 4 current.
    pub generation: u8,
    /// How it finds its server.
    pub address: Address,
    /// Oldest interpreter that it runs on: `major.minor` or `major`.
    pub runtime: String,
    /// Why this version.
    pub why: String,
    /// All packages, `name@version`.
    pub packages: Vec<String>,
}

impl Pin {
    /// Content hash of what is installed: 16 hexadecimal digits. `interpreter` counts as well: a venv is bound to its own.
    #[must_use]
    pub fn hash(&self, interpreter: &str) -> String {
        let mut digest = Sha256::new();
        for part in self
            .packages
            .iter()
            .map(String::as_str)
            .chain([interpreter])
        {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The SDK's own packages with their versions, for people.
    #[must_use]
    pub fn versions(&self) -> String {
        let own = self.packages.iter().filter(|package| {
            ["e2b@", "e2b-code-", "@e2b/code-"]
                .iter()
                .any(|own| package.starts_with(own))
        });
        own.cloned().collect::<Vec<_>>().join(", ")
    }
}

static PINS: LazyLock<Result<Vec<Pin>, String>> = LazyLock::new(|| {
    let text = include_str!("../../scenarios/pins.toml");
    let read: BTreeMap<String, Pin> = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut pins: Vec<Pin> = read
        .into_iter()
        .map(|(name, pin)| Pin { name, ..pin })
        .collect();
    // Newest first: it is what most users have.
    pins.sort_by_key(|pin| {
        (
            std::cmp::Reverse(pin.generation),
            pin.language == Language::Js,
        )
    });
    Ok(pins)
});

/// All pins, newest first. Empty when the built-in file is not well-formed, which the suite's tests see to.
#[must_use]
pub fn all() -> &'static [Pin] {
    PINS.as_deref().unwrap_or(&[])
}

/// A pin by name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Pin> {
    all().iter().find(|pin| pin.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_pins_are_well_formed() {
        assert!(PINS.is_ok(), "{:?}", *PINS);
        assert_eq!(all().len(), 8);
        for pin in all() {
            assert!((1..=4).contains(&pin.generation), "{}", pin.name);
            assert_eq!(pin.versions().split(", ").count(), 2, "{}", pin.versions());
            for package in &pin.packages {
                let (name, version) = package.rsplit_once('@').unwrap();
                assert!(!name.is_empty(), "{package}");
                assert!(
                    version.starts_with(|c: char| c.is_ascii_digit()),
                    "{package}"
                );
            }
        }
    }

    #[test]
    fn the_hash_is_of_packages_and_interpreter() {
        let pin = named("python-current").unwrap();
        assert_eq!(pin.hash("3.11"), pin.hash("3.11"));
        assert_ne!(pin.hash("3.11"), pin.hash("3.12"));
        assert_ne!(pin.hash("3.11"), named("python-2.0").unwrap().hash("3.11"));
    }
}
