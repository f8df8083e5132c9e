//! Commands that only show: list, explain, trace, diff.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{HARNESS, RED, USAGE, refuse};
use crate::report::Report;
use crate::reports::diff;
use crate::requirements::{List, Requirement};
use crate::sdk::{self, pins::Address};
use crate::trace::markdown;

/// As `println!`, but a reader that has seen enough (`… | head`) ends the program without a complaint.
macro_rules! say {
    ($($words:tt)*) => { line(format_args!($($words)*)) };
}

/// Exit status of a program that a closed pipe ended, as shells count it: 128 + SIGPIPE.
const PIPE_CLOSED: i32 = 141;

#[expect(
    clippy::exit,
    reason = "commands that only show have nothing under way that would have to end"
)]
fn line(words: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{words}") {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(PIPE_CLOSED);
        }
        eprintln!("e2b-conformance: standard output cannot be written: {error}");
        std::process::exit(HARNESS.into());
    }
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this area.
    #[arg(long)]
    profile: Option<String>,
    /// List the frozen sets instead.
    #[arg(long, conflicts_with = "profile")]
    sets: bool,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// A check (`area/name`) or a requirement (`area/group/name`).
    id: String,
}

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Earlier report.
    before: PathBuf,
    /// Later report.
    after: PathBuf,
}

pub fn list(list: &List, args: &ListArgs) -> ExitCode {
    if args.sets {
        return sets(list);
    }
    if let Some(wanted) = &args.profile
        && !list.areas.iter().any(|area| area.id == wanted)
    {
        return refuse(USAGE, &unknown_area(list, wanted));
    }
    let of = |area: &str| args.profile.as_ref().is_none_or(|wanted| wanted == area);
    for check in list.checks.iter().filter(|check| of(check.area())) {
        let slow = if check.quick {
            ""
        } else {
            "  (not in --quick)"
        };
        say!(
            "{:<44} {:<6} {}{slow}",
            check.id,
            list.level(check.id).to_string(),
            check.title
        );
    }
    ExitCode::SUCCESS
}

fn sets(list: &List) -> ExitCode {
    let known = |id: &str| list.checks.iter().any(|check| check.id == id);
    match crate::sets::all(known) {
        Err(error) => refuse(HARNESS, &error.to_string()),
        Ok(sets) => {
            for set in sets {
                say!(
                    "{:<32} {:>4} checks  {}",
                    set.name,
                    set.checks.len(),
                    set.clients.join(", ")
                );
            }
            ExitCode::SUCCESS
        }
    }
}

/// Why an area's name cannot be used.
pub fn unknown_area(list: &List, wanted: &str) -> String {
    let known: Vec<&str> = list.areas.iter().map(|area| area.id).collect();
    format!(
        "there is no profile `{wanted}`; there are {}",
        known.join(", ")
    )
}

pub fn explain(list: &List, args: &ExplainArgs) -> ExitCode {
    if let Some(check) = list.checks.iter().find(|check| check.id == args.id) {
        say!(
            "{} ({})\n  {}\n",
            check.id,
            list.level(check.id),
            check.title
        );
        if let Some((pin, step)) = sdk::steps::find(check.id) {
            say!("with {}: {}, {}", pin.name, pin.versions(), pin.why);
            say!(
                "it reads {}",
                match pin.address {
                    Address::Urls => "E2B_API_URL, E2B_SANDBOX_URL, E2B_DOMAIN, E2B_API_KEY",
                    Address::Domain =>
                        "only E2B_DOMAIN and E2B_API_KEY, and speaks https; a TLS front is put before the target",
                }
            );
            say!("step `{}` of the scenario `{}`\n", step.name, step.topic);
        }
        say!("covers:");
        list.covered_by(check.id).into_iter().for_each(requirement);
        say!(
            "\nits negative tests: the bad server with {}",
            check.faults.join(", ")
        );
        return ExitCode::SUCCESS;
    }
    if let Some(one) = list.requirements().find(|one| one.id == args.id) {
        requirement(one);
        match &one.uncovered {
            Some(why) => say!("  no check covers it: {why}"),
            None => say!("  covered by: {}", one.checks.join(", ")),
        }
        return ExitCode::SUCCESS;
    }
    refuse(
        USAGE,
        &format!(
            "there is no check and no requirement `{}`; see `list` and `trace`",
            args.id
        ),
    )
}

fn requirement(one: &Requirement) {
    say!(
        "  {} {}\n    {}\n    source: {}",
        one.id,
        one.level,
        one.text,
        one.source
    );
}

pub fn trace(list: &List) -> ExitCode {
    say!("{}", markdown(list).trim_end_matches('\n'));
    ExitCode::SUCCESS
}

pub fn diff(args: &DiffArgs) -> ExitCode {
    let both = read(&args.before).and_then(|before| Ok((before, read(&args.after)?)));
    match both {
        Err(why) => refuse(USAGE, &why),
        Ok((before, after)) => {
            let (text, worse) = diff::diff(&before, &after);
            say!("{}", text.trim_end_matches('\n'));
            if worse > 0 {
                ExitCode::from(RED)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

fn read(path: &Path) -> Result<Report, String> {
    reports::folder::read_as(path).map_err(|error| error.to_string())
}
