//! Two sandboxes of one template are two machines: nothing random, no id and no clock is shared.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect, fail};
use crate::context::Context;
use crate::probe::Probe;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "uniqueness/getrandom",
        &["clones-draw-alike"],
        "Two sandboxes draw different random numbers from the kernel.",
        |c| Box::pin(drawn(c, "getrandom")),
    ),
    Check::new(
        "uniqueness/urandom",
        &["clones-read-alike"],
        "Two sandboxes read different bytes from /dev/urandom.",
        |c| Box::pin(drawn(c, "urandom")),
    ),
    Check::new(
        "uniqueness/uuid",
        &["clones-same-uuid"],
        "Two sandboxes make different UUIDs.",
        |c| Box::pin(uuid(c)),
    ),
    Check::new(
        "uniqueness/boot-id",
        &["clones-same-boot-id"],
        "Two sandboxes have different boot ids.",
        |c| Box::pin(boot_id(c)),
    ),
    Check::new(
        "uniqueness/machine-id",
        &["clones-same-machine-id"],
        "Two sandboxes have different machine ids, or none.",
        |c| Box::pin(machine_id(c)),
    ),
    Check::new(
        "uniqueness/hostname",
        &["clones-same-hostname"],
        "Two sandboxes have different host names.",
        |c| Box::pin(hostname(c)),
    ),
    Check::new(
        "uniqueness/clock",
        &["clock-of-the-template"],
        "The wall clock of a new sandbox is right within a second.",
        |c| Box::pin(clock(c)),
    ),
    Check::new(
        "uniqueness/monotonic",
        &["monotonic-goes-back"],
        "The monotonic clock never goes back.",
        |c| Box::pin(monotonic(c)),
    ),
];

/// The first that two new sandboxes say to a question.
async fn two(c: &Context, what: &str) -> Result<(Value, Value), Stop> {
    let first = Probe::fresh(c, json!({})).await?;
    let second = Probe::fresh(c, json!({})).await?;
    Ok((first.ask(c, &[what]).await?, second.ask(c, &[what]).await?))
}

fn differ(what: &str, first: &str, second: &str) -> Verdict {
    expect(
        first != second,
        format!("two {what}"),
        format!("{first} in both sandboxes"),
    )
}

async fn drawn(c: Context, source: &str) -> Verdict {
    let (first, second) = two(&c, "draw").await?;
    differ(
        "random numbers",
        &text(&first, source)?,
        &text(&second, source)?,
    )
}

async fn uuid(c: Context) -> Verdict {
    let (first, second) = two(&c, "draw").await?;
    for source in ["uuid", "kernel_uuid"] {
        differ("UUIDs", &text(&first, source)?, &text(&second, source)?)?;
    }
    Ok(())
}

async fn boot_id(c: Context) -> Verdict {
    let (first, second) = two(&c, "identity").await?;
    let first = text(&first, "boot_id")?;
    expect(
        !first.is_empty(),
        "/proc/sys/kernel/random/boot_id",
        "no such file",
    )?;
    differ("boot ids", &first, &text(&second, "boot_id")?)
}

async fn machine_id(c: Context) -> Verdict {
    let (first, second) = two(&c, "identity").await?;
    let first = text(&first, "machine_id")?;
    if first.is_empty() {
        return Ok(());
    }
    differ("machine ids", &first, &text(&second, "machine_id")?)
}

async fn hostname(c: Context) -> Verdict {
    let (first, second) = two(&c, "identity").await?;
    differ(
        "host names",
        &text(&first, "hostname")?,
        &text(&second, "hostname")?,
    )
}

/// Seconds since the epoch, here.
pub fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The sandbox's clock lies between the asking and the answer, with a second of grace.
pub async fn is_right(c: &Context, probe: &Probe) -> Verdict {
    let before = now();
    let seen = probe.ask(c, &["clock"]).await?;
    let after = now();
    let time = seen["time"]
        .as_f64()
        .ok_or_else(|| Stop::Harness("the probe gave no time".to_owned()))?;
    if time >= before - 1.0 && time <= after + 1.0 {
        return Ok(());
    }
    Err(fail(
        format!("a time from {before:.1} to {after:.1}, give or take a second"),
        format!("{time:.1}"),
    ))
}

async fn clock(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    is_right(&c, &probe).await
}

async fn monotonic(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    let earlier = probe.ask(&c, &["clock"]).await?["monotonic"].clone();
    let steps = probe.ask(&c, &["steps"]).await?;
    expect(
        steps["back"] == 0,
        "readings that only rise",
        format!("{} of them are below the one before", steps["back"]),
    )?;
    let (earlier, later) = (earlier.as_f64(), steps["last"].as_f64());
    expect(
        earlier <= later,
        "a later process reads more than an earlier one",
        format!("{earlier:?}, then {later:?}"),
    )
}
