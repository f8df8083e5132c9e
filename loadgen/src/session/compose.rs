//! A report out of what is known at the end.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use reports::model::{
    Environment, Load, Machine, Report, Tag, Target, Tool, Version, Virtualization,
};
use reports::probe;

use super::Session;
use crate::probe::reach::Way;

/// What is known of the server's machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// How it can be looked at.
    pub way: Option<Way>,
    /// How guests run on it.
    pub virtualization: Virtualization,
    /// State of the page cache and of pools, in words.
    pub cache_state: Option<String>,
    /// What a probe on it said of it.
    pub probed: Option<Machine>,
}

/// Puts a report together.
#[must_use]
pub fn report(session: &Session, body: Load, versions: BTreeMap<String, String>) -> Report<Load> {
    let target = &session.client().target;
    Report {
        schema: Version,
        kind: Tag::default(),
        tool: Tool::this("loadgen", env!("CARGO_PKG_VERSION")),
        run: session.run.clone(),
        command: session.settings.command.clone(),
        seed: Some(session.settings.seed),
        started_at: session.started,
        ended_at: Timestamp::now(),
        interrupted: session.stop.is_tripped(),
        target: Target {
            name: session.settings.name.clone(),
            url: target.api.to_string(),
            template: target.template.clone(),
            versions,
        },
        environment: environment(&session.settings.host, &session.settings.folder),
        body,
    }
}

fn environment(host: &Host, folder: &Path) -> Environment {
    let client = Machine {
        file_system: probe::file_system(folder),
        ..probe::client()
    };
    let measured = match &host.probed {
        Some(machine) => Some(machine.clone()),
        None => matches!(host.way, Some(Way::Here)).then(|| client.clone()),
    };
    Environment {
        client: Some(client),
        host: measured.map(|machine| Machine {
            virtualization: host.virtualization,
            cache_state: host.cache_state.clone(),
            ..machine
        }),
    }
}

/// A command line without its key.
#[must_use]
pub fn without_keys(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut hide = false;
    let hidden = words.into_iter().map(|word| {
        if std::mem::take(&mut hide) {
            return "…".to_owned();
        }
        match word.split_once('=') {
            Some((flag, _)) if flag.ends_with("api-key") => format!("{flag}=…"),
            _ => {
                hide = word.starts_with("--") && word.ends_with("api-key");
                word
            }
        }
    });
    hidden.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_get_into_reports() {
        let words = [
            "loadgen",
            "x",
            "--api-key",
            "secret",
            "--b-api-key=secret",
            "-n",
            "5",
        ];
        let kept = without_keys(words.map(str::to_owned));
        assert_eq!(
            kept,
            ["loadgen", "x", "--api-key", "…", "--b-api-key=…", "-n", "5"]
        );
    }
}
