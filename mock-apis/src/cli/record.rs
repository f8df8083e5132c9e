//! `mock-apis record`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, out};
use crate::record::convert::{self, Recording};
use crate::record::file::Place;
use crate::record::proxy::Proxy;
use crate::record::upstream::Upstream;
use crate::record::write;

/// How often what is new is written: who kills the program loses no more than this.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The real API: http://HOST[:PORT] or https://HOST[:PORT].
    #[arg(long, value_name = "ORIGIN")]
    to: String,
    /// Where calls to it come in. Whoever reaches this address calls the real API.
    #[arg(long, default_value = "127.0.0.1:8903")]
    listen: SocketAddr,
    /// The scenario file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file when it is there.
    #[arg(long)]
    force: bool,
    /// Name of the service in the scenario; the first label of the API's host name unless given.
    #[arg(long, value_parser = service)]
    service: Option<String>,
    /// Most calls that are kept; more are passed on all the same.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_calls: usize,
    /// PEM file with certificates that are trusted beside the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Records until Ctrl-C.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    let upstream = Upstream::new(&args.to, args.ca.as_deref())?;
    let service = args.service.unwrap_or_else(|| label(upstream.host()));
    let mut place = Place::new(&args.out, args.force)?;
    let proxy = Proxy::start(upstream, args.listen, args.max_calls)
        .await
        .map_err(|error| CliError::Io(args.listen.to_string(), error))?;
    let replaces = if args.out.exists() {
        ", which is replaced"
    } else {
        ""
    };
    out::print(&format!(
        "recording http://{} -> {}  into {}{replaces}\n",
        proxy.address,
        args.to,
        args.out.display()
    ))?;

    let listen = |kind| signal(kind).map_err(|error| CliError::Io("signals".into(), error));
    let (mut interrupt, mut end) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    let mut saved = 0;
    let mut recording = convert::scenario("recorded", &service, &[]);
    loop {
        let ends = tokio::select! {
            _ = interrupt.recv() => true,
            _ = end.recv() => true,
            () = tokio::time::sleep(SAVE_EVERY) => false,
        };
        let (calls, exchanges, missing) = {
            let tape = proxy.tape();
            let calls = tape.calls();
            let new = if calls == saved {
                Vec::new()
            } else {
                tape.exchanges().to_vec()
            };
            (calls, new, tape.missing())
        };
        if calls > saved && !exchanges.is_empty() {
            let about = format!("Recorded from {} on {}.", args.to, jiff::Timestamp::now());
            recording = convert::scenario("recorded", &service, &exchanges);
            let text = write::scenario(&recording, &[&[about][..], &missing].concat());
            match place.save(&text) {
                Ok(()) => saved = calls,
                Err(error) if ends => return Err(error.into()),
                // The tape has it still: there may be room the next time.
                Err(error) => eprintln!("{error}"),
            }
        }
        if ends {
            out::print(&summary(
                &args.out.display().to_string(),
                calls,
                &recording,
                &missing,
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn summary(out: &str, calls: u64, recording: &Recording, missing: &[String]) -> String {
    let routes: Vec<_> = recording
        .scenario
        .services
        .iter()
        .flat_map(|it| &it.routes)
        .collect();
    let rules: usize = routes.iter().map(|route| route.rules.len()).sum();
    let first = if routes.is_empty() {
        format!("{calls} calls, none that could be kept: {out} was not written")
    } else {
        format!(
            "{out}: {calls} calls, {} routes, {rules} rules",
            routes.len()
        )
    };
    let lines = [&[first][..], missing, &recording.notes].concat();
    lines.join("\n") + "\n"
}

fn service(name: &str) -> Result<String, &'static str> {
    let good = label(name) == name;
    good.then(|| name.to_owned())
        .ok_or("a name has 1 to 63 lower-case letters, digits and `-`")
}

/// The first label of a host name, as the name of a service; `api` for an address.
fn label(host: &str) -> String {
    let label = host.split('.').next().unwrap_or("").to_ascii_lowercase();
    let name = label
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || c == b'-');
    let address = host.parse::<std::net::IpAddr>().is_ok();
    if name && !address && (1..=63).contains(&label.len()) {
        label
    } else {
        "api".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_host() {
        for (host, name) in [
            ("Flights.example.com", "flights"),
            ("localhost", "localhost"),
            ("10.0.0.1", "api"),
            ("::1", "api"),
            ("a_b.example.com", "api"),
        ] {
            assert_eq!(label(host), name, "{host}");
        }
        assert!(service("api-2").is_ok() && service("A").is_err() && service("a.b").is_err());
    }
}
