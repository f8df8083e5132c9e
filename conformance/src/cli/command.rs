//! The words that make a run again, files and environment taken into account. Never the key: it comes from the environment.

use super::run::Args;
use crate::target::{Door, Target};

/// The words that point the program at a target.
pub fn pointed(target: &Target, set: Option<&str>) -> Vec<String> {
    let (door, address) = match &target.door {
        Door::Shared { url, .. } => ("--sandbox-url", url.clone()),
        Door::Names {
            scheme,
            port,
            domain,
        } => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            ("--domain", format!("{scheme}://{domain}{port}"))
        }
    };
    let mut words = Vec::from(["e2b-conformance", "run"].map(str::to_owned));
    let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    say("--url", target.url.clone());
    say(door, address);
    say("--template", target.template.clone());
    say(
        "--interpreter-template",
        target.interpreter_template.clone(),
    );
    say("--patience", target.patience.to_string());
    if let Some(set) = set {
        say("--set", set.to_owned());
    }
    words.extend(target.options.iter().cloned());
    words
}

/// All words: what is selected and expected, too.
pub fn whole(mut words: Vec<String>, target: &Target, args: &Args) -> Vec<String> {
    for (flag, values) in [
        ("--profile", &args.profile),
        ("--check", &args.check),
        ("--unsupported", &target.unsupported),
    ] {
        for value in values {
            words.extend([flag.to_owned(), value.clone()]);
        }
    }
    if !args.sdk.is_empty() {
        words.extend(["--sdk".to_owned(), args.sdk.join(",")]);
    }
    if let Some(path) = &args.expected {
        words.extend(["--expected".to_owned(), path.display().to_string()]);
    }
    words.extend(["--parallel".to_owned(), args.parallel.to_string()]);
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words.extend(args.strict.then(|| "--strict".to_owned()));
    words
}

/// As a line to type.
pub fn typed(words: &[String]) -> String {
    format!("E2B_API_KEY=… {}", reports::model::command_line(words))
}
