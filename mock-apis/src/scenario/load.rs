//! From a file to a scenario, or to the list of what is wrong with it.

use std::path::{Path, PathBuf};

use super::{Scenario, check, yaml};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Where in the document, as a JSON pointer.
    pub pointer: String,
    /// What.
    pub message: String,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is read, and wrong.
    #[error("{}", list(.path, .problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that was found.
        problems: Vec<Problem>,
    },
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| {
        let place = if problem.pointer.is_empty() {
            String::new()
        } else {
            format!(" (at {})", problem.pointer)
        };
        format!(
            "{}:{}: {}{place}",
            path.display(),
            problem.line,
            problem.message
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads and checks the scenario at `path`.
pub fn from_path(path: &Path) -> Result<Scenario, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::Read {
        path: path.to_owned(),
        error,
    })?;
    from_text(&text).map_err(|problems| LoadError::Invalid {
        path: path.to_owned(),
        problems,
    })
}

/// Checks the scenario in `text`.
pub fn from_text(text: &str) -> Result<Scenario, Vec<Problem>> {
    let document = yaml::parse(text).map_err(|(line, error)| {
        vec![Problem {
            line,
            pointer: String::new(),
            message: error.to_string(),
        }]
    })?;
    let scenario: Scenario =
        serde_path_to_error::deserialize(&document.value).map_err(|error| {
            let pointer = pointer(error.path());
            let message = error.inner().to_string();
            let line = document.line(&pointer);
            vec![Problem {
                line,
                pointer,
                message,
            }]
        })?;
    let problems = check::check(&scenario)
        .into_iter()
        .map(|(pointer, error)| Problem {
            line: document.line(&pointer),
            pointer,
            message: error.to_string(),
        })
        .collect::<Vec<_>>();
    if problems.is_empty() {
        Ok(scenario)
    } else {
        Err(problems)
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .fold(String::new(), |pointer, segment| match segment {
            Segment::Seq { index } => format!("{pointer}/{index}"),
            Segment::Map { key } => format!("{pointer}/{}", yaml::escape(key)),
            Segment::Enum { variant } => format!("{pointer}/{}", yaml::escape(variant)),
            Segment::Unknown => pointer,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: 1\nname: n\nservices:\n  - name: a\n    routes:\n      - operation: x\n        method: GET\n        path: /x\n        reply: {status: 200}\n";

    #[test]
    fn a_small_scenario_is_read() {
        assert_eq!(
            from_text(GOOD).unwrap().services[0].routes[0].operation,
            "x"
        );
    }

    #[test]
    fn each_kind_of_wrong_has_its_line() {
        let rule = |text: &str| {
            format!("{GOOD}        rules:\n          - schedule: always\n            {text}\n")
        };
        let table = [
            ("unknown field", format!("{GOOD}extra: 1\n")),
            ("wrong type", GOOD.replace("status: 200", "status: many")),
            ("missing field", GOOD.replace("name: n\n", "")),
            ("unknown fault", rule("fault: {explode: {}}")),
            (
                "unknown field of a fault",
                rule("fault: {rate_limited: {retry_after: 1}}"),
            ),
            ("neither fault nor reply", rule("then_state: x")),
            ("another version", GOOD.replace("version: 1", "version: 2")),
            (
                "status out of range",
                GOOD.replace("status: 200", "status: 42"),
            ),
            ("no such method", GOOD.replace("GET", "G E T")),
            ("no path", GOOD.replace("        path: /x\n", "")),
            ("bad name", GOOD.replace("name: a", "name: A_")),
            (
                "no such operation",
                format!(
                    "{GOOD}expectations:\n  - only_allowed_operations: {{operations: [a.y]}}\n"
                ),
            ),
            (
                "bad latency",
                format!("{GOOD}        latency: {{fixed_ms: -5}}\n"),
            ),
            ("not YAML", format!("{GOOD} - x: [\n")),
        ];
        let seen = table
            .iter()
            .map(|(what, text)| {
                let problems = from_text(text).expect_err(what);
                let list = list(Path::new("s.yaml"), &problems);
                format!("{what}\n  {}", list.replace('\n', "\n  "))
            })
            .collect::<Vec<_>>();
        insta::assert_snapshot!(seen.join("\n"));
    }

    #[test]
    fn the_committed_schema_is_that_of_the_types() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Scenario)).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/scenario.schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            schema,
            "UPDATE_SCHEMA=1 writes it anew"
        );
    }
}
