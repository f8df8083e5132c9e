//! A sandbox has what the API says, and bears its own excesses.

use serde_json::{Value, json};

use super::reach::wait;
use crate::check::{Check, Stop, Verdict, equal, expect};
use crate::context::Context;
use crate::probe::Probe;
use crate::wire::reply::number;

pub const CHECKS: &[Check] = &[
    Check::new(
        "isolation/cpu",
        &["cpus-of-the-host"],
        "A sandbox has the processors that the API says.",
        |c| Box::pin(cpu(c)),
    ),
    Check::new(
        "isolation/memory",
        &["memory-of-the-host"],
        "A sandbox has the memory that the API says.",
        |c| Box::pin(memory(c)),
    ),
    Check::new(
        "isolation/disk",
        &["disk-of-the-host"],
        "A sandbox has the disk that the API says.",
        |c| Box::pin(disk(c)),
    ),
    Check::new(
        "isolation/fork-bomb",
        &["fork-bomb-ends-sandbox"],
        "After a fork bomb the sandbox answers.",
        |c| Box::pin(fork_bomb(c)),
    )
    .slow(),
    Check::new(
        "isolation/memory-hog",
        &["memory-hog-ends-sandbox"],
        "After a program took all memory the sandbox answers.",
        |c| Box::pin(memory_hog(c)),
    )
    .slow(),
    Check::new(
        "isolation/disk-full",
        &["full-disk-ends-sandbox"],
        "With a full disk the sandbox answers.",
        |c| Box::pin(disk_full(c)),
    )
    .slow(),
];

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

async fn cpu(c: Context) -> Verdict {
    let probe = Probe::shared(&c).await?;
    let seen = number(&probe.ask(&c, &["size"]).await?, "cpus")?;
    let stated = probe.stated(&c, "cpuCount").await?;
    equal("processors", &seen, &stated)
}

/// The kernel and the file system keep a part; more than what is stated is as wrong as much less.
fn about(what: &str, seen: u64, stated: u64, least: u64) -> Verdict {
    let fits = seen * 100 >= stated * MIB * least && seen * 100 <= stated * MIB * 105;
    expect(
        fits,
        format!("{least} to 105 % of {stated} MiB of {what}"),
        format!("{} MiB", seen / MIB),
    )
}

async fn memory(c: Context) -> Verdict {
    let probe = Probe::shared(&c).await?;
    let seen = number(&probe.ask(&c, &["size"]).await?, "memory")?;
    about("memory", seen, probe.stated(&c, "memoryMB").await?, 80)
}

async fn disk(c: Context) -> Verdict {
    let probe = Probe::shared(&c).await?;
    let seen = number(&probe.ask(&c, &["size"]).await?, "disk")?;
    about("disk", seen, probe.stated(&c, "diskSizeMB").await?, 80)
}

/// The sandbox still runs a command, though perhaps not at once.
async fn answers(c: &Context, probe: &Probe) -> Verdict {
    let mut last = Ok(());
    for _ in 0..10 {
        last = match probe.sandbox.run(c, "echo alive").await {
            Ok(done) if done.out() == "alive\n" => return Ok(()),
            Ok(done) => expect(false, "the word alive", format!("{:?}", done.out())),
            Err(stop) => Err(stop),
        };
        tokio::time::sleep(c.limit(0.5)).await;
    }
    last
}

/// Runs what may be killed, and whose stream may break with it; gives what it said, if it came to that.
async fn abused(c: &Context, probe: &Probe, args: &[&str]) -> Result<Option<Value>, Stop> {
    let done = match probe.run(c, args, None).await {
        Ok(done) => done,
        Err(Stop::Fail { .. }) => return Ok(None),
        Err(stop) => return Err(stop),
    };
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    match serde_json::from_slice(&done.stdout) {
        Ok(said) => Ok(Some(said)),
        // Python's own end, not one from outside: nothing was tried.
        Err(_) if done.exit_code() == 1 && !errors.contains("MemoryError") => {
            let last = errors.lines().last().unwrap_or("").to_owned();
            Err(Stop::Untestable(format!("the probe did not run: {last}")))
        }
        Err(_) => Ok(None),
    }
}

async fn fork_bomb(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    abused(&c, &probe, &["forks", &wait(&c)]).await?;
    answers(&c, &probe).await
}

async fn memory_hog(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    let twice = probe.stated(&c, "memoryMB").await? * 2;
    let said = abused(&c, &probe, &["hog", &twice.to_string()]).await?;
    let taken = said.and_then(|said| said["taken"].as_u64());
    expect(
        taken.is_none_or(|taken| taken < twice),
        "an end of the memory",
        format!("{taken:?} MiB taken"),
    )?;
    answers(&c, &probe).await
}

async fn disk_full(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    let twice = probe.stated(&c, "diskSizeMB").await? * 2;
    let path = "/home/user/all-of-the-disk";
    let said = abused(&c, &probe, &["fill", path, &twice.to_string()]).await?;
    let taken = said.and_then(|said| said["taken"].as_u64());
    expect(
        taken.is_none_or(|taken| taken < twice),
        "an end of the disk",
        format!("{taken:?} MiB taken"),
    )?;
    answers(&c, &probe).await?;
    probe.sandbox.run(&c, &format!("rm -f {path}")).await?;
    probe
        .sandbox
        .put(&c, "/home/user/after", b"there is room again")
        .await
}
