//! What a sandbox reaches, as its network policy says. Two web servers outside are needed: `--outside`, `--outside-names`.
//!
//! A policy that closes is only believed where an open sandbox reaches the same server; else the check is untestable.

mod create;
mod names;
mod rules;
mod update;

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect, fail};
use crate::context::Context;
use crate::probe::Probe;
use crate::sandbox::Sandbox;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [create::CHECKS, names::CHECKS, update::CHECKS, rules::CHECKS].concat()
}

/// Every address.
const ALL: &str = "0.0.0.0/0";

/// Seconds that a connection may take. A closed way may well be silent.
fn wait(c: &Context) -> String {
    format!("{:.1}", c.limit(5.0).as_secs_f64().min(20.0))
}

/// What a web server says to a sandbox; `name` is what it is called in SNI or Host, where it is not the address's.
async fn said(c: &Context, probe: &Probe, url: &str, name: &str) -> Result<(bool, String), Stop> {
    let wait = wait(c);
    let mut args = vec!["reach", &wait, url];
    if !name.is_empty() {
        args.push(name);
    }
    let seen = probe.ask(c, &args).await?;
    let said = seen["said"].as_str().unwrap_or("").to_owned();
    Ok((seen["reached"] == true, said))
}

/// The server is reached, at one of three tries: the outside may fail as well as a policy.
async fn reached(c: &Context, probe: &Probe, url: &str) -> Verdict {
    let mut last = String::new();
    for _ in 0..3 {
        let (reached, said) = said(c, probe, url, "").await?;
        if reached {
            return Ok(());
        }
        last = said;
    }
    Err(fail(
        format!("{url} reached from the sandbox"),
        format!("not reached: {last}"),
    ))
}

/// The server is not reached, at any of two tries.
async fn closed(c: &Context, probe: &Probe, url: &str) -> Verdict {
    for _ in 0..2 {
        let (reached, _) = said(c, probe, url, "").await?;
        expect(
            !reached,
            format!("{url} not reached from the sandbox"),
            "it was reached",
        )?;
    }
    Ok(())
}

/// A sandbox with the internet and the policy that is tried. That it is created with it is part of what is tried.
async fn sandbox(c: &Context, extra: Value) -> Result<Probe, Stop> {
    let mut body = json!({ "allow_internet_access": true });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let made = c.create(body).await?.status(201)?.json()?;
    Probe::put(c, Sandbox::read(&made)?).await
}

/// An open sandbox that reaches both servers outside.
///
/// # Errors
/// Untestable when it does not: then a closed way shows nothing.
pub async fn opened(c: &Context) -> Result<Probe, Stop> {
    let probe = Probe::fresh(c, json!({ "allow_internet_access": true })).await?;
    let outside = &c.target().outside;
    for url in [&outside.first, &outside.second] {
        reached(c, &probe, url).await.map_err(|stop| {
            stop.blocks("an open sandbox does not reach the server outside; see --outside")
        })?;
    }
    Ok(probe)
}

/// An open sandbox that reaches both servers by name.
async fn opened_by_name(c: &Context) -> Result<Probe, Stop> {
    let probe = Probe::fresh(c, json!({ "allow_internet_access": true })).await?;
    let outside = &c.target().outside;
    for name in [&outside.first_name, &outside.second_name] {
        for scheme in ["https", "http"] {
            reached(c, &probe, &format!("{scheme}://{name}"))
                .await
                .map_err(|stop| {
                    stop.blocks(
                        "an open sandbox does not reach the name outside; see --outside-names",
                    )
                })?;
        }
    }
    Ok(probe)
}
