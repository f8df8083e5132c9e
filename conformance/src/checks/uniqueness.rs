//! Two sandboxes of one template are two machines: nothing random, no id and no clock is shared.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect, fail};
use crate::checks::interpreter;
use crate::checks::pause::{paused, resumed};
use crate::context::Context;
use crate::probe::Probe;
use crate::sandbox::Sandbox;
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
    Check::new(
        "uniqueness/python-random",
        &["warm-random-alike"],
        "Two sandboxes draw different numbers from a warm Python's random.",
        |c| Box::pin(warm(c, "random", "random.random()")),
    ),
    Check::new(
        "uniqueness/openssl",
        &["warm-openssl-alike"],
        "Two sandboxes draw different bytes from OpenSSL in a warm Python.",
        |c| Box::pin(warm(c, "ssl", "ssl.RAND_bytes(16).hex()")),
    ),
    Check::new(
        "uniqueness/fork-random",
        &["forks-draw-alike"],
        "Forks of one sandbox draw different random numbers.",
        |c| Box::pin(fork_random(c)),
    ),
    Check::new(
        "uniqueness/resume-clock",
        &["clock-stands-still"],
        "After a resume the wall clock is right within a second.",
        |c| Box::pin(resume_clock(c)),
    )
    .slow(),
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

/// What the interpreter's process, which is as old as the template, draws in two sandboxes.
async fn warm(c: Context, module: &str, draw: &str) -> Verdict {
    let template = &c.target().interpreter_template;
    let code = format!("import {module}\nprint({draw})");
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let sandbox = c.fresh(json!({ "templateID": template })).await?;
        let events = interpreter::ran(&c, &sandbox, &json!({ "code": code }))
            .await
            .map_err(|stop| stop.blocks("the cell did not run"))?;
        let text = interpreter::printed(&events, "stdout");
        if text.trim().is_empty() {
            return Err(Stop::Untestable(format!(
                "the cell said nothing: {}",
                json!(events)
            )));
        }
        drawn.push(text);
    }
    differ("draws", drawn[0].trim(), drawn[1].trim())
}

async fn fork_random(c: Context) -> Verdict {
    let blocked = |stop: Stop| stop.blocks("the sandbox could not be forked");
    let parent = Probe::fresh(&c, json!({})).await?;
    let path = format!("/sandboxes/{}/fork", parent.sandbox.id);
    let reply = c
        .post(&path, &json!({ "count": 2, "timeout": 300 }))
        .await?;
    let entries = reply
        .one_of(&[200, 201])
        .map_err(blocked)?
        .array()
        .map_err(blocked)?;
    let mut drawn = Vec::new();
    for entry in &entries {
        let child = Sandbox::read(&entry["sandbox"]).map_err(blocked)?;
        let seen = parent.in_clone(child).ask(&c, &["draw"]).await?;
        drawn.push(seen);
    }
    if drawn.len() != 2 {
        return Err(Stop::Untestable(format!(
            "a fork of two gave {} sandboxes",
            drawn.len()
        )));
    }
    for source in ["getrandom", "urandom", "uuid", "kernel_uuid"] {
        let (first, second) = (text(&drawn[0], source)?, text(&drawn[1], source)?);
        differ(source, &first, &second)?;
    }
    Ok(())
}

async fn resume_clock(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    paused(&c, &probe.sandbox, &json!({})).await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    resumed(&c, &probe.sandbox)
        .await
        .map_err(|stop| stop.blocks("the sandbox could not be resumed"))?;
    is_right(&c, &probe).await
}
