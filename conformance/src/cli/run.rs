//! `run`: checks a target, writes the reports, and leaves no sandbox behind.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reports::folder::{self, FolderError};
use reports::model::{Environment, Tag, Tool, Version};
use reports::render;
use tokio::signal::unix::{SignalKind, signal};

use super::{HARNESS, INTERRUPTED, NO_TARGET, RED, USAGE, command, refuse, show};
use crate::context::{Context, Run, unique};
use crate::expected::{Expected, Standing};
use crate::preflight::{self, Found, PreflightError};
use crate::report::{Conformance, Outcome, Report, Status, profiles};
use crate::reports::{console, junit, markdown};
use crate::requirements::List;
use crate::runner::{Plan, Selection, is_declared, run_all};
use crate::sdk;
use crate::sets;
use crate::target::{Target, TargetFile};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the API.
    #[arg(long, env = "E2B_API_URL")]
    url: Option<String>,
    /// API key.
    #[arg(long, env = "E2B_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// One address for traffic to all sandboxes; they are named by headers.
    #[arg(long, env = "E2B_SANDBOX_URL")]
    sandbox_url: Option<String>,
    /// Sandboxes are reached at https://PORT-ID.DOMAIN; `http://DOMAIN` is for plain HTTP, and a port may follow.
    #[arg(long, env = "E2B_DOMAIN")]
    domain: Option<String>,
    /// Trust the roots in this file (PEM) too.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Use an address for a name: HOST:ADDRESS or *.DOMAIN:ADDRESS; may be repeated.
    #[arg(long)]
    resolve: Vec<String>,
    /// Two web servers outside that sandboxes may reach [default: https://1.1.1.1,https://8.8.8.8].
    #[arg(long)]
    outside: Option<String>,
    /// Names of theirs, served on 443 and 80 [default: one.one.one.one,dns.google].
    #[arg(long)]
    outside_names: Option<String>,
    /// Address of the API for the content of volumes [default: what the API says, else its own address].
    #[arg(long, env = "E2B_VOLUME_API_URL")]
    volume_url: Option<String>,
    /// Template of the sandboxes that are made [default: base]. It needs a shell and python3.
    #[arg(long)]
    template: Option<String>,
    /// Template with the code interpreter [default: code-interpreter-v1].
    #[arg(long)]
    interpreter_template: Option<String>,
    /// A TOML file with these options without their dashes (url, api-key, …, unsupported); flags go before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only these areas; may be repeated.
    #[arg(long)]
    pub(super) profile: Vec<String>,
    /// Only these checks or requirements, by id or beginning of an id; may be repeated.
    #[arg(long)]
    pub(super) check: Vec<String>,
    /// Of the SDK checks only those of these versions, as python-current,js-2.0; see `list --profile sdk`.
    #[arg(long, value_delimiter = ',')]
    pub(super) sdk: Vec<String>,
    /// Leave out the checks that have to wait.
    #[arg(long)]
    pub(super) quick: bool,
    /// Checks at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) parallel: u8,
    /// All time limits times this [default: 1], for slow targets.
    #[arg(long)]
    patience: Option<f64>,
    /// An area or check that the target declares not to support; may be repeated.
    #[arg(long)]
    unsupported: Vec<String>,
    /// The vendor's list of known failures: `"check" = "reason"` a line.
    #[arg(long)]
    pub(super) expected: Option<PathBuf>,
    /// What the target is called in reports.
    #[arg(long)]
    name: Option<String>,
    /// Score only the checks of this frozen set; the others are run and shown. See `list --sets`.
    #[arg(long)]
    set: Option<String>,
    /// SHOULD and MAY failures make the run red too.
    #[arg(long)]
    pub(super) strict: bool,
    /// Folder for report.json, report.html, report.md, junit.xml and badge.svg.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(list: &List, args: Args) -> ExitCode {
    let prepared = prepare(list, &args);
    let (target, plan, words) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return refuse(USAGE, &why),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return refuse(HARNESS, &error.to_string()),
    };
    let code = runtime.block_on(ran(list, target, &plan, words, &args));
    // Requests that a second Ctrl-C cut off are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

fn prepare(list: &List, args: &Args) -> Result<(Target, Plan, Vec<String>), String> {
    let mut file = match &args.config {
        None => TargetFile::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
    };
    file.url = args.url.clone().or(file.url);
    file.api_key = args.api_key.clone().or(file.api_key);
    file.sandbox_url = args.sandbox_url.clone().or(file.sandbox_url);
    file.domain = args.domain.clone().or(file.domain);
    file.template = args.template.clone().or(file.template);
    file.interpreter_template = args
        .interpreter_template
        .clone()
        .or(file.interpreter_template);
    file.patience = args.patience.or(file.patience);
    file.unsupported.extend(args.unsupported.clone());
    file.ca = args.ca.clone().or(file.ca);
    file.resolve.extend(args.resolve.clone());
    file.outside = args.outside.clone().or(file.outside);
    file.outside_names = args.outside_names.clone().or(file.outside_names);
    file.volume_url = args.volume_url.clone().or(file.volume_url);
    let target = file.target().map_err(|error| error.to_string())?;
    for area in &args.profile {
        if !list.areas.iter().any(|known| known.id == area) {
            return Err(show::unknown_area(list, area));
        }
    }
    for name in &args.sdk {
        if sdk::pins::named(name).is_none() {
            let known: Vec<&str> = sdk::pins::all()
                .iter()
                .map(|pin| pin.name.as_str())
                .collect();
            return Err(format!(
                "there is no SDK `{name}`; there are {}",
                known.join(", ")
            ));
        }
    }
    let selection = Selection {
        areas: args.profile.clone(),
        ids: args.check.clone(),
        sdks: args.sdk.clone(),
        quick: args.quick,
    };
    if !list.checks.iter().any(|check| selection.takes(list, check)) {
        return Err("no check is selected; see `e2b-conformance list`".to_owned());
    }
    for declared in &target.unsupported {
        let one = Selection {
            ids: vec![declared.clone()],
            ..Selection::default()
        };
        if !list.checks.iter().any(|check| one.takes(list, check)) {
            return Err(format!(
                "`{declared}` is declared unsupported, and is no area and no check"
            ));
        }
    }
    let expected = match &args.expected {
        None => Expected::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let known = |id: &str| list.checks.iter().any(|check| check.id == id);
            Expected::read(&text, known).map_err(|error| error.to_string())?
        }
    };
    let known = |id: &str| list.checks.iter().any(|check| check.id == id);
    let set = match &args.set {
        None => None,
        Some(name) => Some(sets::named(name, known).map_err(|error| error.to_string())?),
    };
    let words = command::pointed(&target, args.set.as_deref());
    let rerun = command::typed(&words);
    let words = command::whole(words, &target, args);
    Ok((
        target,
        Plan {
            selection,
            parallel: usize::from(args.parallel),
            expected,
            set,
            rerun,
        },
        words,
    ))
}

async fn ran(
    list: &List,
    target: Target,
    plan: &Plan,
    command: Vec<String>,
    args: &Args,
) -> ExitCode {
    let name = unique();
    let run = Run::new(target, &name);
    let started_at = jiff::Timestamp::now();
    let mut results = Vec::new();
    let work = async {
        let found = preflight::look(&Context::new(Arc::clone(&run))).await?;
        let total = list
            .checks
            .iter()
            .filter(|check| plan.selection.takes(list, check))
            .count();
        let bar = bar(total);
        set_up(&run, list, plan, &bar).await;
        run_all(&run, list, plan, |outcome| {
            tell(&bar, outcome);
            results.push(outcome.clone());
        })
        .await;
        bar.finish_and_clear();
        Ok::<Found, PreflightError>(found)
    };
    // What was under way is dropped; what it made is in the ledger, or carries the run's label.
    let ended = tokio::select! {
        ended = work => Some(ended),
        () = told_to_end() => None,
    };
    if ended.is_none() {
        eprintln!("interrupted; killing the sandboxes of this run (Ctrl-C again to leave them)");
    }
    let (_, left_behind) = tokio::select! {
        cleaned = run.ledger.clean(&run.target) => cleaned,
        () = told_to_end() => {
            return refuse(INTERRUPTED, &format!("sandboxes with metadata {}={name} are left", crate::ledger::LABEL));
        }
    };
    let (found, interrupted) = match ended {
        Some(Err(error @ PreflightError::Ours(_))) => return refuse(HARNESS, &error.to_string()),
        Some(Err(error)) => return refuse(NO_TARGET, &run.secrets.text(&error.to_string())),
        Some(Ok(found)) => (Some(found), false),
        None => (None, true),
    };
    results.sort_by_key(|result: &Outcome| {
        list.checks
            .iter()
            .position(|check| check.id == result.check)
    });
    let selected = |check| plan.selection.takes(list, check);
    let report = Report {
        schema: Version,
        kind: Tag::default(),
        tool: Tool::this(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        run: name,
        command,
        seed: None,
        started_at,
        ended_at: jiff::Timestamp::now(),
        interrupted,
        target: reports::model::Target {
            name: args.name.clone(),
            url: run.target.url.clone(),
            template: run.target.template.clone(),
            versions: found
                .map(|found| ("envd".to_owned(), found.envd_version))
                .into_iter()
                .collect(),
        },
        environment: Environment {
            client: Some(reports::probe::machine()),
            host: None,
        },
        body: Conformance {
            unsupported: run.target.unsupported.clone(),
            requirements: list.requirements().count(),
            covered: list
                .requirements()
                .filter(|one| !one.checks.is_empty())
                .count(),
            not_selected: list.checks.iter().filter(|check| !selected(check)).count(),
            left_behind,
            profiles: profiles(list, &results),
            results,
        },
    };
    sdk::front::tidy();
    finish(&report, args)
}

fn finish(report: &Report, args: &Args) -> ExitCode {
    print!("{}", console::summary(report, args.strict));
    if let Some(out) = &args.out
        && let Err(error) = write(report, out)
    {
        return refuse(HARNESS, &error.to_string());
    }
    if report.interrupted {
        return ExitCode::from(INTERRUPTED);
    }
    if report.body.count(Status::HarnessError) > 0 {
        return ExitCode::from(HARNESS);
    }
    if report.body.red(args.strict).is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(RED)
    }
}

fn write(report: &Report, out: &std::path::Path) -> Result<(), FolderError> {
    folder::write(out, report)?;
    folder::write_file(out, "junit.xml", &junit::xml(report))?;
    folder::write_file(out, "report.md", &markdown::page(report))?;
    folder::write_file(out, "report.html", &render::conformance_page(report))?;
    folder::write_file(out, "badge.svg", &render::conformance::badge(&report.body))
}

/// Installs the SDKs of the selected checks before time limits count. What does not come makes its checks untestable.
async fn set_up(run: &Arc<Run>, list: &List, plan: &Plan, bar: &ProgressBar) {
    for pin in sdk::pins::all() {
        let wanted = list.checks.iter().any(|check| {
            sdk::steps::pin_of(check.id) == Some(pin.name.as_str())
                && plan.selection.takes(list, check)
                && !is_declared(run, check)
        });
        if !wanted {
            continue;
        }
        say(bar, &format!("SDK {} ({})", pin.name, pin.versions()));
        if let Err(error) = run.sdk.project(pin).await {
            say(bar, &format!("SDK {}: {error}", pin.name));
        }
    }
}

fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        eprintln!("{line}");
    } else {
        bar.println(line);
    }
}

fn bar(total: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn tell(bar: &ProgressBar, outcome: &Outcome) {
    bar.inc(1);
    bar.set_message(outcome.check.clone());
    let shown = match outcome.standing {
        Standing::Fine => false,
        Standing::Unscored => outcome.status != Status::Pass,
        _ => true,
    };
    if shown {
        let line = format!("{:<13} {}", outcome.status.to_string(), outcome.check);
        say(bar, &line);
    }
}

/// Ctrl-C, or the signal that ends a program kindly.
async fn told_to_end() {
    let term = async {
        match signal(SignalKind::terminate()) {
            Ok(mut term) => drop(term.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = term => {}
    }
}
