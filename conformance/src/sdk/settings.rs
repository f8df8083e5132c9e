//! What the environment of a scenario says: first what any user of the SDK sets, then what the scenarios need.

use std::collections::BTreeMap;

use super::pins::{Address, Pin};
use crate::check::Stop;
use crate::context::Context;
use crate::ledger::LABEL;
use crate::target::{Door, Target};

/// The environment of a scenario of this pin against the run's target.
///
/// # Errors
/// When the front that older versions need cannot be had.
pub async fn environment(c: &Context, pin: &Pin) -> Result<BTreeMap<String, String>, Stop> {
    let target = c.target();
    let mut env = common(target, pin, c.run_name());
    match (pin.address, &target.door) {
        // An installation with DNS and certificates: as its users have it.
        (_, Door::Names { domain, .. }) if target.url == format!("https://api.{domain}") => {
            env.insert("E2B_DOMAIN".to_owned(), domain.clone());
        }
        (Address::Urls, Door::Shared { url, .. }) => {
            env.insert("E2B_API_URL".to_owned(), target.url.clone());
            env.insert("E2B_SANDBOX_URL".to_owned(), url.clone());
        }
        // These send by libraries with a resolver of their own, which no front can stand before.
        (Address::Urls, Door::Names { domain, .. }) => {
            return Err(Stop::Untestable(format!(
                "{} reaches sandboxes at host names only by https://PORT-ID.{domain}; give --sandbox-url, or an API at \
                 https://api.{domain}",
                pin.name
            )));
        }
        (Address::Domain, _) => {
            let front = c.sdk().front(c).await?;
            env.extend(
                front
                    .settings()
                    .map_err(|error| Stop::Harness(error.to_string()))?,
            );
        }
    }
    Ok(env)
}

/// What is the same however the server is found.
#[must_use]
pub fn common(target: &Target, pin: &Pin, run: &str) -> BTreeMap<String, String> {
    [
        ("E2B_API_KEY", target.api_key.clone()),
        ("E2B_CONFORMANCE_GENERATION", pin.generation.to_string()),
        ("E2B_CONFORMANCE_LABEL", LABEL.to_owned()),
        ("E2B_CONFORMANCE_RUN", run.to_owned()),
        ("E2B_CONFORMANCE_TEMPLATE", target.template.clone()),
        (
            "E2B_CONFORMANCE_CODE_TEMPLATE",
            target.interpreter_template.clone(),
        ),
        ("E2B_CONFORMANCE_PATIENCE", target.patience.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
