//! Policies of a create, by name.

use serde_json::{Value, json};

use super::{ALL, closed, opened_by_name, reached, said, sandbox, wait};
use crate::check::{Check, Stop, Verdict, expect};
use crate::context::Context;
use crate::probe::Probe;

pub const CHECKS: &[Check] = &[
    Check::new(
        "network/name",
        &["allowed-name-closed", "deny-ignored"],
        "A name in allowOut is reached on 443 and 80, others are not.",
        |c| Box::pin(name(c)),
    ),
    Check::new(
        "network/wildcard",
        &["wildcard-ignored"],
        "A wildcard in allowOut holds for names below it.",
        |c| Box::pin(wildcard(c)),
    ),
    Check::new(
        "network/name-case",
        &["names-with-case"],
        "Names are compared without regard to case.",
        |c| Box::pin(case(c)),
    ),
    Check::new(
        "network/name-spoofed",
        &["spoofed-name-opens"],
        "A false DNS answer opens nothing.",
        |c| Box::pin(spoofed(c)),
    ),
    Check::new(
        "network/dns-servers",
        &["dns-servers-ignored"],
        "dnsServers says which resolvers are reached.",
        |c| Box::pin(dns(c)),
    ),
];

/// A sandbox that may reach one name only, and a control.
async fn only(c: &Context, allowed: &str) -> Result<Probe, Stop> {
    let network = json!({ "allowOut": [allowed], "denyOut": [ALL] });
    let probe = sandbox(c, json!({ "network": network })).await?;
    opened_by_name(c).await?;
    Ok(probe)
}

async fn name(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let probe = only(&c, &outside.first_name).await?;
    for scheme in ["https", "http"] {
        reached(&c, &probe, &format!("{scheme}://{}", outside.first_name)).await?;
        closed(&c, &probe, &format!("{scheme}://{}", outside.second_name)).await?;
    }
    Ok(())
}

async fn wildcard(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let above = outside
        .first_name
        .split_once('.')
        .map_or("", |(_, above)| above);
    let probe = only(&c, &format!("*.{above}")).await?;
    reached(&c, &probe, &format!("https://{}", outside.first_name)).await?;
    closed(&c, &probe, &format!("https://{}", outside.second_name)).await
}

async fn case(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let probe = only(&c, &outside.first_name.to_uppercase()).await?;
    reached(&c, &probe, &format!("https://{}", outside.first_name)).await
}

async fn spoofed(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let probe = only(&c, &outside.first_name).await?;
    // The second server under its own address and name, then under the name of the first, which is allowed.
    let url = format!("https://{}", outside.second_host());
    let open = opened_by_name(&c).await?;
    let (reached, own) = said(&c, &open, &url, &outside.second_name).await?;
    if !reached || !own.contains(&outside.second_name) {
        return Err(Stop::Untestable(format!(
            "{url} does not show a certificate for {}; see --outside",
            outside.second_name
        )));
    }
    let (reached, seen) = said(&c, &probe, &url, &outside.first_name).await?;
    expect(
        !reached || !seen.contains(&outside.second_name),
        format!("{url} closed to who calls it {}", outside.first_name),
        format!("a connection to {}", outside.second_name),
    )
}

async fn answers(c: &Context, probe: &Probe, server: &str) -> Result<bool, Stop> {
    let name = &c.target().outside.first_name;
    let seen: Value = probe.ask(c, &["dns", &wait(c), server, name]).await?;
    Ok(seen["answered"] == true)
}

async fn dns(c: Context) -> Verdict {
    let outside = &c.target().outside;
    let (first, second) = (outside.first_host(), outside.second_host());
    let network =
        json!({ "allowOut": [outside.first_name], "denyOut": [ALL], "dnsServers": [first] });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    let open = Probe::fresh(&c, json!({ "allow_internet_access": true })).await?;
    for server in [first, second] {
        if !answers(&c, &open, server).await? {
            return Err(Stop::Untestable(format!(
                "an open sandbox has no answer from the resolver {server}; see --outside"
            )));
        }
    }
    expect(
        answers(&c, &probe, first).await?,
        format!("the resolver {first} reached"),
        "no answer from it",
    )?;
    expect(
        !answers(&c, &probe, second).await?,
        format!("the resolver {second} not reached"),
        "an answer from it",
    )
}
