//! `mock-apis contract`: runs agents against a scenario, each in a sandbox or as a plain process, and judges them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ipnet::IpNet;
use loadgen::cli::options::Way;
use loadgen::e2b::Client;
use loadgen::session::compose::without_keys;
use reports::folder;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, out};
use crate::contract_run::report::{self, About, Place};
use crate::contract_run::sandboxed::Sandboxes;
use crate::contract_run::{Run, files, local, table};
use crate::server::{Identity, Server};

/// A free port, for nobody but this machine.
const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file.
    #[arg(long)]
    scenario: PathBuf,
    /// The agent's command; words are parted by spaces. May be repeated: each agent is judged by itself.
    #[arg(long, required = true)]
    agent: Vec<String>,
    /// Run it as a plain process, without a sandbox. The report says so.
    #[arg(long)]
    local: bool,
    /// Longest run of an agent, in seconds.
    #[arg(long, default_value_t = 120)]
    timeout_s: u64,
    /// In sandboxes.
    #[command(flatten)]
    sandboxes: SandboxArgs,
    /// Write report.json (for `reports render`), junit.xml and journal.jsonl into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the result here as JSON; a list of results when there are several agents.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the result here as JUnit XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Write the journal here, one JSON object per line.
    #[arg(long)]
    journal: Option<PathBuf>,
}

/// Options for agents in sandboxes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "In sandboxes")]
struct SandboxArgs {
    /// Address of the control API.
    #[arg(long, value_name = "URL", env = "E2B_API_URL")]
    url: Option<String>,
    /// API key.
    #[arg(long, value_name = "KEY", env = "E2B_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    way: Way,
    /// A file or folder of the agent's, to be found under its name in the folder where the agent runs. May be repeated.
    #[arg(long, value_name = "PATH")]
    upload: Vec<PathBuf>,
    /// What follows a service's name in the name that sandboxes call it by.
    #[arg(long, value_name = "DOMAIN", default_value = MOCK_DOMAIN)]
    mock_domain: String,
    /// Where the mocks listen for the daemon, which is told so by its --internal-service (see `mock-apis services`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8900")]
    listen: SocketAddr,
    /// Networks that the daemon calls from. It is believed when it says which sandbox calls.
    #[arg(long, value_name = "CIDR", default_value = "127.0.0.0/8")]
    trust_front: Vec<IpNet>,
}

/// Domain of mocks when none is named.
pub const MOCK_DOMAIN: &str = "mock.internal";

/// Runs, judges, prints. What was judged before Ctrl-C is kept.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    let words = std::iter::once("mock-apis".to_owned()).chain(std::env::args().skip(1));
    let about = About {
        command: without_keys(words),
        started: jiff::Timestamp::now(),
        sandboxes: args.place(),
    };
    let done = all(&args).await?;
    write(&args, &done, about)?;
    Ok(
        match (done.interrupted, done.runs.iter().any(Run::failed)) {
            (true, _) => ExitCode::from(130),
            (false, true) => ExitCode::FAILURE,
            (false, false) => ExitCode::SUCCESS,
        },
    )
}

/// What was judged.
struct Done {
    runs: Vec<Run>,
    interrupted: bool,
}

async fn all(args: &Args) -> Result<Done, CliError> {
    let engine = super::load(&args.scenario)?;
    let scenario = engine.scenario.clone();
    let io = |what: &str| {
        let what = what.to_owned();
        move |error| CliError::Io(what, error)
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("Ctrl-C"))?;
    let sandboxes = (!args.local).then(|| args.sandboxes()).transpose()?;
    let (front, identity) = match &sandboxes {
        None => (FREE, Identity::default()),
        Some(_) => (args.sandboxes.listen, args.sandboxes.identity()),
    };
    let server = Server::start(engine, front, FREE, identity).await;
    let server = server.map_err(io(&format!("the mocks at {front}")))?;
    let mut done = Done {
        runs: Vec::new(),
        interrupted: false,
    };
    for agent in &args.agent {
        let words: Vec<String> = agent.split_whitespace().map(str::to_owned).collect();
        let run = match &sandboxes {
            Some(sandboxes) => {
                let run = sandboxes.run(&server, &scenario, &words, interrupt.recv());
                run.await?
            }
            None => tokio::select! {
                run = local::run(&server, &scenario, &words, args.limit()) => {
                    Some(run.map_err(io(agent))?)
                }
                _ = interrupt.recv() => None,
            },
        };
        let Some(run) = run else {
            done.interrupted = true;
            break;
        };
        out::print(&table::text(&run))?;
        done.runs.push(run);
    }
    if done.runs.len() > 1 {
        out::print(&table::summary(&done.runs))?;
    }
    Ok(done)
}

impl Args {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// Where the sandboxes are, for the report.
    fn place(&self) -> Option<Place> {
        let url = self.sandboxes.url.clone().filter(|_| !self.local)?;
        let template = self.sandboxes.way.template.clone();
        Some(Place { url, template })
    }

    fn sandboxes(&self) -> Result<Sandboxes, CliError> {
        let it = &self.sandboxes;
        let (Some(url), Some(key)) = (&it.url, &it.api_key) else {
            return Err(CliError::NoTarget);
        };
        let target = it.way.target(url, key, it.way.sandbox_url.as_deref())?;
        Ok(Sandboxes {
            client: Client::new(target),
            domain: it.mock_domain.clone(),
            files: files::read(&it.upload)?,
            limit: self.limit(),
        })
    }
}

impl SandboxArgs {
    /// The daemon says who calls; nobody else does.
    fn identity(&self) -> Identity {
        Identity {
            header: String::new(),
            trusted: self.trust_front.clone(),
            proxy: true,
        }
    }
}

fn write(args: &Args, done: &Done, about: About) -> Result<(), CliError> {
    let runs = &done.runs[..];
    let (junit, journal) = (
        table::junit(runs),
        runs.iter().map(Run::journal_lines).collect::<String>(),
    );
    if let Some(out) = &args.out {
        let mut report = report::report(runs, about);
        report.interrupted = done.interrupted;
        folder::write(out, &report)?;
        folder::write_file(out, "junit.xml", &junit)?;
        folder::write_file(out, "journal.jsonl", &journal)?;
    }
    let json = match runs {
        [run] => serde_json::to_string_pretty(run),
        runs => serde_json::to_string_pretty(runs),
    };
    let files = [
        (&args.json, json.unwrap_or_default()),
        (&args.junit, junit),
        (&args.journal, journal),
    ];
    for (path, text) in files {
        if let Some(path) = path {
            std::fs::write(path, text)
                .map_err(|error| CliError::Io(path.display().to_string(), error))?;
        }
    }
    Ok(())
}
