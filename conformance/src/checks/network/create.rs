//! Policies of a create, by address.

use serde_json::{Value, json};

use super::{ALL, closed, opened, reached, sandbox, wait};
use crate::check::{Check, Stop, Verdict};
use crate::checks::isolation::reach::nothing;
use crate::context::Context;
use crate::probe::Probe;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "network/default-open",
        &["internet-closed"],
        "Without options the internet is reached.",
        |c| Box::pin(default_open(c)),
    ),
    Check::new(
        "network/closed",
        &["internet-stays-open"],
        "With allow_internet_access false the internet is not reached.",
        |c| Box::pin(off(c)),
    ),
    Check::new(
        "network/allow-despite",
        &["closed-wins", "internet-stays-open"],
        "allowOut holds although allow_internet_access is false.",
        |c| Box::pin(allow_despite(c)),
    ),
    Check::new(
        "network/deny",
        &["deny-ignored"],
        "An address in denyOut is not reached.",
        |c| Box::pin(deny(c)),
    ),
    Check::new(
        "network/allow-wins",
        &["deny-wins", "deny-ignored"],
        "allowOut goes before denyOut.",
        |c| Box::pin(allow_wins(c)),
    ),
    Check::new(
        "network/private-ranges",
        &["private-ranges-opened"],
        "Private ranges stay closed whatever is allowed.",
        |c| Box::pin(private_ranges(c)),
    ),
    Check::new(
        "network/metadata-address",
        &["metadata-opened"],
        "169.254.169.254 stays closed whatever is allowed.",
        |c| Box::pin(metadata(c)),
    ),
];

async fn default_open(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({})).await?;
    reached(&c, &probe, &c.target().outside.first).await
}

async fn off(c: Context) -> Verdict {
    opened(&c).await?;
    let probe = sandbox(&c, json!({ "allow_internet_access": false })).await?;
    closed(&c, &probe, &c.target().outside.first).await?;
    closed(&c, &probe, &c.target().outside.second).await
}

async fn allow_despite(c: Context) -> Verdict {
    opened(&c).await?;
    let outside = &c.target().outside;
    let network = json!({ "allowOut": [outside.first_host()] });
    let body = json!({ "allow_internet_access": false, "network": network });
    let probe = sandbox(&c, body).await?;
    reached(&c, &probe, &outside.first).await?;
    closed(&c, &probe, &outside.second).await
}

async fn deny(c: Context) -> Verdict {
    opened(&c).await?;
    let outside = &c.target().outside;
    let network = json!({ "denyOut": [outside.first_host()] });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    closed(&c, &probe, &outside.first).await?;
    reached(&c, &probe, &outside.second).await
}

async fn allow_wins(c: Context) -> Verdict {
    opened(&c).await?;
    let outside = &c.target().outside;
    let network = json!({ "allowOut": [outside.first_host()], "denyOut": [ALL] });
    let probe = sandbox(&c, json!({ "network": network })).await?;
    reached(&c, &probe, &outside.first).await?;
    closed(&c, &probe, &outside.second).await
}

/// A sandbox that asks for what is never open; none where the create is refused for it.
async fn asking(c: &Context, ranges: Value) -> Result<Option<Probe>, Stop> {
    let network = json!({ "allowOut": ranges });
    let body = json!({ "allow_internet_access": true, "network": network, "timeout": 120 });
    let reply = c.create(body).await?;
    if reply.status.as_u16() == 400 {
        return Ok(None);
    }
    let sandbox = crate::sandbox::Sandbox::read(&reply.status(201)?.json()?)?;
    Ok(Some(Probe::put(c, sandbox).await?))
}

async fn private_ranges(c: Context) -> Verdict {
    let ranges = json!([
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16"
    ]);
    let Some(probe) = asking(&c, ranges).await? else {
        return Ok(());
    };
    let gateway = text(&probe.ask(&c, &["addresses"]).await?, "gateway")?;
    let mut places = Vec::new();
    for address in [
        gateway.as_str(),
        "10.0.0.1",
        "100.64.0.1",
        "172.17.0.1",
        "192.168.0.1",
        "192.168.1.1",
    ] {
        for port in [22, 80, 443] {
            if !address.is_empty() && !address.starts_with("169.254.") {
                places.push(format!("{address}:{port}"));
            }
        }
    }
    nothing(&c, &probe, &wait(&c), &places).await
}

async fn metadata(c: Context) -> Verdict {
    let Some(probe) = asking(&c, json!(["169.254.0.0/16", "169.254.169.254"])).await? else {
        return Ok(());
    };
    nothing(&c, &probe, &wait(&c), &["169.254.169.254:80".to_owned()]).await
}
