//! What a sandbox does not reach.

use serde_json::{Value, json};

use crate::check::{Check, Stop, Verdict, expect, fail};
use crate::checks::network::opened;
use crate::context::Context;
use crate::probe::Probe;
use crate::wire::reply::text;

pub const CHECKS: &[Check] = &[
    Check::new(
        "isolation/neighbour",
        &["neighbours-reached"],
        "A sandbox does not reach another one's ports.",
        |c| Box::pin(neighbour(c)),
    ),
    Check::new(
        "isolation/metadata-address",
        &["metadata-reached"],
        "A sandbox does not reach the host's metadata address.",
        |c| Box::pin(metadata(c)),
    ),
    Check::new(
        "isolation/host",
        &["host-reached"],
        "A sandbox does not reach the host by private addresses.",
        |c| Box::pin(host(c)),
    ),
    Check::new(
        "isolation/source-address",
        &["any-source-address"],
        "A sandbox cannot send with another source address.",
        |c| Box::pin(source(c)),
    ),
];

/// Seconds that one connection may take.
pub fn wait(c: &Context) -> String {
    format!("{:.1}", c.limit(3.0).as_secs_f64().min(15.0))
}

/// Which of these places answer in a sandbox.
async fn answering(
    c: &Context,
    probe: &Probe,
    wait: &str,
    places: &[String],
) -> Result<Vec<Value>, Stop> {
    let args: Vec<&str> = ["answering", wait]
        .into_iter()
        .chain(places.iter().map(String::as_str))
        .collect();
    let seen = probe.ask(c, &args).await?;
    seen["answering"]
        .as_array()
        .cloned()
        .ok_or_else(|| Stop::Harness("the probe gave no list".to_owned()))
}

/// None of these places answers in a sandbox within `wait` seconds.
pub async fn nothing(c: &Context, probe: &Probe, wait: &str, places: &[String]) -> Verdict {
    let found = answering(c, probe, wait, places).await?;
    expect(
        found.is_empty(),
        format!("no answer from {}", places.join(", ")),
        format!("answers from {}", Value::from(found)),
    )
}

async fn neighbour(c: Context) -> Verdict {
    let open = json!({ "allow_internet_access": true });
    let one = Probe::fresh(&c, open.clone()).await?;
    let port = 8_104;
    let process = crate::checks::proxy::serve(&c, &one.sandbox, port, "0.0.0.0").await?;
    let address = text(&one.ask(&c, &["addresses"]).await?, "address")?;
    if address.is_empty() {
        // Without a network of its own there is nothing that another one could reach.
        return Ok(());
    }
    let place = vec![format!("{address}:{port}")];
    if answering(&c, &one, &wait(&c), &place).await?.is_empty() {
        return Err(Stop::Untestable(format!(
            "the echo server does not answer at the sandbox's own address {address}"
        )));
    }
    let other = Probe::fresh(&c, open).await?;
    let verdict = nothing(&c, &other, &wait(&c), &place).await;
    drop(process);
    verdict
}

async fn metadata(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({ "allow_internet_access": true })).await?;
    let places = ["169.254.169.254:80", "169.254.170.2:80"].map(str::to_owned);
    nothing(&c, &probe, &wait(&c), &places).await
}

async fn host(c: Context) -> Verdict {
    let probe = Probe::fresh(&c, json!({ "allow_internet_access": true })).await?;
    let gateway = text(&probe.ask(&c, &["addresses"]).await?, "gateway")?;
    let uri: Option<http::Uri> = c.target().url.parse().ok();
    let api = uri.and_then(|uri| uri.port_u16()).unwrap_or(443);
    let mut places = Vec::new();
    for address in [gateway.as_str(), "10.0.0.1", "172.17.0.1", "192.168.0.1"] {
        for port in [22, 80, 443, api] {
            if !address.is_empty() {
                places.push(format!("{address}:{port}"));
            }
        }
    }
    nothing(&c, &probe, &wait(&c), &places).await
}

async fn source(c: Context) -> Verdict {
    let probe = opened(&c).await?;
    let (wait, url) = (wait(&c), c.target().outside.first.clone());
    let seen = probe
        .ask_as(&c, &["source", &wait, &url], Some("root"))
        .await?;
    let tried = seen["tried"].as_object().cloned().unwrap_or_default();
    if tried.is_empty() {
        return Err(Stop::Untestable(
            "the sandbox has no interface to send from".to_owned(),
        ));
    }
    match tried.iter().find(|(_, seen)| seen["reached"] == true) {
        None => Ok(()),
        Some((address, _)) => Err(fail(
            "no answer to packets from another address",
            format!("{url} answered to {address}"),
        )),
    }
}
