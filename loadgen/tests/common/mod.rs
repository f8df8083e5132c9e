//! The shipped program against a stub.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use loadgen::pace::poisson::unit;
use loadgen::stub::{Script, Stub};
use reports::folder;
use reports::model::{Load, Report, Sample};
use reports::stats::random::Random;

/// A stub on a port of its own.
pub fn stub(script: Script) -> Stub {
    Stub::start(script, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// The program with these words, pointed at a URL, results in `out`.
pub fn command(url: &str, out: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(words.split_whitespace());
    for name in ["E2B_SANDBOX_URL", "E2B_DOMAIN"] {
        command.env_remove(name);
    }
    command
        .env("E2B_API_URL", url)
        .env("E2B_API_KEY", "e2b_good")
        .arg("--out")
        .arg(out);
    command
}

/// Runs it to its end.
pub fn run(url: &str, out: &Path, words: &str) -> Output {
    command(url, out, words).output().unwrap()
}

/// Exit code and standard error.
pub fn told(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// The report of a run.
pub fn report(out: &Path) -> Report<Load> {
    folder::read_as(out).unwrap()
}

/// The samples of one series of a run.
#[allow(dead_code, reason = "not every test looks at samples")]
pub fn samples(out: &Path, series: &str) -> Vec<Sample> {
    let mut all = folder::samples(out).unwrap();
    all.retain(|sample| sample.series == series);
    all
}

/// A seed whose first draw is above a share: the preflight's sandbox is not the one that is hit.
#[allow(dead_code, reason = "not every test has sandboxes that are silent")]
pub fn seed_that_begins_above(share: f64) -> u64 {
    let first = |seed: &u64| unit(&mut Random::new(*seed)) > share;
    (0..).find(first).unwrap()
}
