//! The pages of reports in a real browser: `tests/browser`.
//!
//! ```text
//! cargo builds `reports` ─▶ pytest drives Debian's chromium over the pages that it makes ─▶ JUnit is counted
//! ```

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::tally::{Count, Tally};
use crate::cache::Ctx;
use crate::cargo;
use crate::sdks::Sdks;

/// Runs the suite. A test that never ends is ended by pytest's own limit.
///
/// # Errors
/// When it cannot be run at all; failing tests are counted.
pub fn run(ctx: &Ctx, tally: &mut Tally) -> Result<()> {
    ctx.progress.line("\n── pages in a browser");
    let python = Sdks::python(ctx)?;
    let program = cargo::program(ctx, "reports")?;
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
