//! A daemon on a host, from its start to its end.
//!
//! ```text
//! folders ─▶ key ─▶ serve ─▶ /health answers ─▶ … ─▶ SIGTERM ─▶ gone ─▶ folders removed
//!                     ▲                          │
//!                     └──────── killed ◀─────────┘   (supervise: at most 3 within a minute)
//! ```
//!
//! A daemon that is killed finds its sandboxes again when it is started with the same folders,
//! so it is restarted rather than given up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::cache::Ctx;
use crate::exec::{CommandLine, Output};
use crate::host::{Host, Running};
use crate::lab::instance::{Instance, Kind};
use crate::parts::Parts;
use crate::progress::Task;
use crate::progress::tail;
use crate::signals;

/// The port that the daemon listens on inside of a lab.
const INSIDE_PORT: u16 = 3000;
/// How long a sandbox may take to boot in a lab, on a machine that does something else too.
const LAB_BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How long the daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(900);
/// How long it may take to kill all sandboxes and end.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long a short command of the daemon's may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Restarts within [`RESTART_WINDOW`] before giving up.
const RESTARTS: usize = 12;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// What a user of the daemon must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it answers on this machine.
    pub address: SocketAddr,
    /// A key for its API.
    pub key: String,
}

impl Endpoint {
    /// What follows a sandbox's name in its host names. All of `*.localhost` is this machine.
    fn domain(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The variables that point E2B's SDKs at it.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{}", self.address);
        vec![
            ("E2B_API_URL", url.clone()),
            ("E2B_API_KEY", self.key.clone()),
            ("E2B_SANDBOX_URL", url),
            ("E2B_DOMAIN", self.domain()),
        ]
    }
}

/// Folders of a daemon, as its host sees them.
#[derive(Debug, Clone)]
pub struct Folders {
    /// What survives the daemon.
    pub state: PathBuf,
    /// Sockets.
    pub run: PathBuf,
}

/// A running daemon. Dropped, it is stopped, and its host with it.
#[derive(Debug)]
pub struct Daemon {
    endpoint: Endpoint,
    folders: Folders,
    running: Option<Running>,
    command: CommandLine,
    log: PathBuf,
    restarts: Vec<Instant>,
    // After what uses them.
    _instance: Option<Instance>,
    host: Host,
}

impl Daemon {
    /// Starts a daemon on `host`, answering on port `port` of this machine's loopback, or on a
    /// free one.
    ///
    /// # Errors
    /// When it can't be started or doesn't answer: with the end of its log.
    pub fn start(ctx: &Ctx, parts: &Parts, host: Host, port: Option<u16>) -> Result<Self> {
        Self::start_with(ctx, parts, host, port, &[])
    }

    /// The same, with more flags for the daemon.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(
        ctx: &Ctx,
        parts: &Parts,
        mut host: Host,
        port: Option<u16>,
        flags: &[String],
    ) -> Result<Self> {
        let task = ctx.progress.task("daemon");
        let (folders, instance) = folders(ctx, &host)?;
        let (listen, address) = match &mut host {
            Host::Direct => {
                let port = free_port(port)?;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                (address.to_string(), address)
            }
            lab @ Host::Lab(_) => {
                let address = lab.forward(INSIDE_PORT, port)?;
                (format!("0.0.0.0:{INSIDE_PORT}"), address)
            }
        };
        let log = ctx
            .cache
            .dir("logs")?
            .join(format!("sandboxd-{}.log", address.port()));
        std::fs::write(&log, "")?;
        let key = create_key(&host, parts, &folders)?;
        let endpoint = Endpoint { address, key };
        let mut command = serve(parts, &folders, &listen, &endpoint.domain(), &host);
        command.argv.extend_from_slice(flags);
        let mut daemon = Self {
            command,
            endpoint,
            folders,
            running: None,
            log,
            restarts: Vec::new(),
            _instance: instance,
            host,
        };
        daemon.launch(Some(&task))?;
        task.done(&format!("answers on {address} ({})", daemon.host.name()));
        Ok(daemon)
    }

    /// How to reach it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its folders.
    #[must_use]
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its log, on this machine.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Looks after it for `time`: restarts it when it was killed.
    ///
    /// # Errors
    /// When it ended by itself, is killed again and again, or its host is gone.
    pub fn supervise(&mut self, time: Duration) -> Result<()> {
        let Some(running) = &self.running else {
            bail!("the daemon isn't running");
        };
        let exit = match running.wait_for(time) {
            Ok(None) => return Ok(()),
            Ok(Some(exit)) => exit,
            Err(error) => {
                self.host.check()?;
                return Err(error);
            }
        };
        signals::check()?;
        self.running = None;
        let now = Instant::now();
        self.restarts
            .retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        self.restarts.push(now);
        ensure!(
            self.restarts.len() <= RESTARTS,
            "the daemon ended {} times within a minute, the last time with {exit}:\n{}",
            self.restarts.len(),
            tail(&self.log)
        );
        eprintln!("the daemon ended with {exit}; starting it again");
        self.launch(None)
    }

    /// Ends the daemon and its sandboxes, and hands back the host.
    ///
    /// # Errors
    /// When it doesn't end well by itself; it is killed then.
    pub fn stop(mut self) -> Result<Host> {
        self.end()?;
        Ok(std::mem::replace(&mut self.host, Host::Direct))
    }

    fn end(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.signal(Signal::TERM);
        match running.wait_for(STOP_LIMIT)? {
            Some(exit) if exit.success() => Ok(()),
            Some(exit) => bail!("the daemon ended with {exit}:\n{}", tail(&self.log)),
            None => bail!(
                "the daemon did not end within {} s:\n{}",
                STOP_LIMIT.as_secs(),
                tail(&self.log)
            ),
        }
    }

    /// Starts the program and waits until it answers. At its first start it warms its templates, which it tells.
    fn launch(&mut self, task: Option<&Task>) -> Result<()> {
        let output = Output::file(&self.log)
            .with_context(|| format!("could not open {}", self.log.display()))?;
        let running = self.host.spawn(self.command.clone(), output)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            signals::check()?;
            if healthy(self.endpoint.address) {
                break;
            }
            if let Some(exit) = running.wait_for(Duration::from_millis(50))? {
                bail!(
                    "the daemon ended with {exit} at its start:\n{}",
                    tail(&self.log)
                );
            }
            if let (Some(task), Some(template)) = (task, being_warmed(&self.log)) {
                task.message(format!("warming template {template}"));
            }
            if Instant::now() > deadline {
                bail!(
                    "the daemon did not answer within {} s:\n{}",
                    START_LIMIT.as_secs(),
                    tail(&self.log)
                );
            }
        }
        self.running = Some(running);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Directly, folders of our own that go at the end; in a lab, its usual ones.
fn folders(ctx: &Ctx, host: &Host) -> Result<(Folders, Option<Instance>)> {
    match host {
        Host::Lab(_) => {
            let (state, run) = ("/var/lib/sandboxd".into(), "/run/sandboxd".into());
            Ok((Folders { state, run }, None))
        }
        Host::Direct => {
            let mut instance = Instance::create(ctx, Kind::Direct)?;
            // Short: the name of a unix socket has room for 107 bytes.
            let run = tempfile::Builder::new().prefix("sbx-").tempdir()?.keep();
            instance.update(|owner| owner.also.push(run.clone()))?;
            let state = instance.path("state");
            Ok((Folders { state, run }, Some(instance)))
        }
    }
}

fn serve(parts: &Parts, folders: &Folders, listen: &str, domain: &str, host: &Host) -> CommandLine {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec![text(&parts.sandboxd), "serve".into()];
    for (flag, value) in [
        ("--listen", listen.to_owned()),
        ("--state-dir", text(&folders.state)),
        ("--run-dir", text(&folders.run)),
        ("--kernel", text(&parts.kernel)),
        ("--agent-disk", text(&parts.agent_disk)),
        ("--overlay-base", text(&parts.overlay)),
        ("--templates", text(&parts.templates)),
        ("--microvm", text(&parts.microvm)),
        ("--domain", domain.to_owned()),
    ] {
        words.push(flag.to_owned());
        words.push(value);
    }
    words.push("--kill-on-exit".to_owned());
    if matches!(host, Host::Lab(_)) {
        words.extend([
            "--start-timeout-seconds".to_owned(),
            LAB_BOOT_LIMIT.as_secs().to_string(),
        ]);
    }
    on_its_own(CommandLine::new(words))
}

/// Without the variables that would change the daemon's settings behind our back, and with the
/// folders of system tools on the path.
fn on_its_own(mut command: CommandLine) -> CommandLine {
    command
        .env
        .retain(|name, _| !name.starts_with("SANDBOXD_") && !name.starts_with("E2B_"));
    let path = command.env.get("PATH").cloned().unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .cwd("/")
}

fn create_key(host: &Host, parts: &Parts, folders: &Folders) -> Result<String> {
    let words = [
        &parts.sandboxd,
        Path::new("key"),
        Path::new("create"),
        Path::new("--state-dir"),
    ]
    .map(|word| word.to_string_lossy().into_owned())
    .into_iter()
    .chain([folders.state.to_string_lossy().into_owned()]);
    let printed = host
        .output(on_its_own(CommandLine::new(words)), COMMAND_LIMIT)
        .context("could not create an API key")?;
    find_key(&printed).with_context(|| format!("the daemon printed no key but: {printed}"))
}

/// The API key in what `sandboxd key create` prints: `e2b_` and 40 hexadecimal digits.
fn find_key(printed: &str) -> Option<String> {
    printed
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .find(|word| {
            word.strip_prefix("e2b_").is_some_and(|digits| {
                digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit())
            })
        })
        .map(str::to_owned)
}

/// A TCP port of this machine's loopback: `wanted`, or one that is free now.
///
/// # Errors
/// When it can't be had.
pub fn free_port(wanted: Option<u16>) -> Result<u16> {
    // Else another daemon there would answer in place of ours, which could not start.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0)))
        .with_context(|| format!("port {} of this machine can't be used", wanted.unwrap_or(0)))?;
    Ok(listener.local_addr()?.port())
}

/// The template of which the log last said that it is being warmed.
fn being_warmed(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().rfind(|line| line.contains("warming"))?;
    let name = line.split("template=\"").nth(1)?.split('"').next()?;
    Some(name.to_owned())
}

/// Whether `GET /health` gives a 2xx.
fn healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        // In one piece: a server that answers the first of several, and closes, resets the connection.
        let request =
            format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.1 2"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_in_work_is_read_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(being_warmed(&log), None);
        let line = "2026-01-01T00:00:00Z  INFO warming template=\"base\"\n";
        std::fs::write(&log, format!("starting\n{line}other\n")).unwrap();
        assert_eq!(being_warmed(&log).as_deref(), Some("base"));
    }

    #[test]
    fn the_key_is_found_among_words() {
        let key = format!("e2b_{}", "0123456789abcdef0123456789abcdef01234567");
        assert_eq!(
            find_key(&format!("Key \"ci\": {key}\nkeep it\n")),
            Some(key)
        );
        assert_eq!(find_key("e2b_short"), None);
    }

    #[test]
    fn the_environment_as_the_sdks_read_it() {
        let endpoint = Endpoint {
            address: ([127, 0, 0, 1], 3000).into(),
            key: "k".into(),
        };
        let lines: Vec<_> = endpoint
            .env()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        E2B_API_URL=http://127.0.0.1:3000
        E2B_API_KEY=k
        E2B_SANDBOX_URL=http://127.0.0.1:3000
        E2B_DOMAIN=localhost:3000
        ");
    }

    #[test]
    fn settings_from_outside_do_not_reach_the_daemon() {
        let command = CommandLine::new(["x"])
            .env("SANDBOXD_LISTEN", "1")
            .env("LANG", "C");
        let command = on_its_own(command);
        assert!(!command.env.contains_key("SANDBOXD_LISTEN"));
        assert!(command.env.contains_key("LANG"));
        assert!(command.env["PATH"].ends_with(":/usr/sbin:/usr/bin:/sbin:/bin"));
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let error = free_port(Some(port)).unwrap_err().to_string();
        assert_eq!(error, format!("port {port} of this machine can't be used"));
        assert_ne!(free_port(None).unwrap(), port);
    }

    #[test]
    fn health_is_a_2xx() {
        let answer = |text: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]);
                stream.write_all(text.as_bytes()).unwrap();
            });
            healthy(address)
        };
        assert!(answer("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
        assert!(!answer("x"));
    }
}
