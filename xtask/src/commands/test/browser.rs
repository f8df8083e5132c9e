//! The pages of reports in a real browser: `tests/browser`.
//!
//! ```text
//! cargo builds `reports` ─▶ pytest drives Debian's chromium over the pages that it makes ─▶ JUnit is counted
//! ```

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::tally::{Count, Tally};
use crate::cache::Ctx;
use crate::cargo::cargo;
use crate::sdks::Sdks;

/// Runs the suite. A test that never ends is ended by pytest's own limit.
///
/// # Errors
/// When it cannot be run at all; failing tests are counted.
pub fn run(ctx: &Ctx, tally: &mut Tally) -> Result<()> {
    ctx.progress.line("\n── pages in a browser");
    let python = Sdks::python(ctx)?;
    let program = build(ctx)?;
    let started = Instant::now();
    let results = ctx.workspace.join("target/browser");
    std::fs::create_dir_all(&results)?;
    let junit = results.join("browser.xml");
    let _ = std::fs::remove_file(&junit);
    let status = Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(format!("--junitxml={}", junit.display()))
        .current_dir(ctx.workspace.join("tests/browser"))
        .env("REPORTS", program)
        // A test must not leave its compiled self in the source tree.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .status()
        .context("could not start pytest")?;
    let mut count = Count::of_junit(&std::fs::read_to_string(&junit).unwrap_or_default());
    // A suite that ran nothing, or ended badly without a failed test, has failed as a whole.
    if count.failed == 0 && (!status.success() || count.passed == 0) {
        ctx.progress.line(&format!("pytest: {status}"));
        count.failed = 1;
    }
    tally.add("pages in a browser", count, started.elapsed());
    Ok(())
}

/// The program that makes the pages.
fn build(ctx: &Ctx) -> Result<PathBuf> {
    let output = cargo(ctx)
        // The whole workspace's features, so that what its tests compiled will do.
        .args(["build", "--locked", "--workspace", "--bin", "reports"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo")?;
    ensure!(
        output.status.success(),
        "the program `reports` does not compile"
    );
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo built no program `reports`")
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"serde\"},\"executable\":null}\n",
            "warning: not JSON\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"reports\"},\"executable\":\"/t/debug/reports\"}\n",
        );
        assert_eq!(
            executable(messages),
            Some(PathBuf::from("/t/debug/reports"))
        );
        assert_eq!(executable(""), None);
    }
}
