//! Formatting, lints and unit tests, by cargo.

use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result};

use super::tally::{Count, Tally};
use crate::cache::Ctx;
use crate::cargo::cargo;

/// Runs all sections; a failing one doesn't keep the next from running.
pub fn run(ctx: &Ctx, tally: &mut Tally) -> Result<()> {
    section(ctx, tally, "fmt", &["fmt", "--all", "--check"])?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    section(ctx, tally, "clippy", &clippy)?;
    section(
        ctx,
        tally,
        "cargo test",
        &["test", "--workspace", "--locked", "--no-fail-fast"],
    )
}

fn section(ctx: &Ctx, tally: &mut Tally, name: &str, args: &[&str]) -> Result<()> {
    ctx.progress.line(&format!("\n── {name}"));
    let started = Instant::now();
    // Standard error is cargo's own, with its progress.
    let mut child = cargo(ctx)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start cargo")?;
    let printed = show(&mut child.stdout.take().context("no pipe")?)?;
    let good = child.wait()?.success();
    let mut count = Count::of_cargo(&printed);
    if count.passed + count.failed == 0 {
        // A section that runs no tests of its own counts as one.
        count = Count::one(good);
    } else if !good && count.failed == 0 {
        // Some test program was not even compiled, or died.
        count.failed = 1;
    }
    tally.add(name, count, started.elapsed());
    Ok(())
}

/// Shows output as it comes, and gives it back.
fn show(from: &mut impl Read) -> Result<String> {
    use std::io::Write;
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    let mut out = std::io::stdout();
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(String::from_utf8_lossy(&all).into_owned());
        }
        all.extend_from_slice(&buffer[..n]);
        out.write_all(&buffer[..n])?;
        out.flush()?;
    }
}
