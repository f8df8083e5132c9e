//! Volumes with their content, and secrets.

mod content;
mod manage;
mod secrets;

use serde_json::json;

use crate::check::{Check, Stop, fail};
use crate::context::{Context, unique};
use crate::wire::reply::{Reply, text};

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [manage::CHECKS, content::CHECKS, secrets::CHECKS].concat()
}

/// A volume of a check.
#[derive(Clone, Debug)]
struct Volume {
    id: String,
    name: String,
    token: String,
    /// Where its content is, if the API said so.
    domain: Option<String>,
}

/// Creates a volume; any reply is a result, and a success is deleted with the check.
async fn create(c: &Context, name: &str) -> Result<Reply, Stop> {
    let reply = c.post("/volumes", &json!({ "name": name })).await?;
    if let Ok(body) = reply.json()
        && let Some(token) = body["token"].as_str()
    {
        c.secret(token);
    }
    Ok(reply)
}

/// A name that nobody else uses.
fn name() -> String {
    format!("e2b-conformance_{}", unique())
}

/// A volume that a check needs.
///
/// # Errors
/// Untestable when it cannot be created.
async fn volume(c: &Context) -> Result<Volume, Stop> {
    let blocked = |stop: Stop| stop.blocks("a volume could not be created");
    let name = name();
    let reply = create(c, &name).await.map_err(blocked)?;
    if !reply.status.is_success() {
        return Err(blocked(fail("a volume", reply.brief())));
    }
    let body = reply.json().map_err(blocked)?;
    Ok(Volume {
        id: text(&body, "volumeID").map_err(blocked)?,
        token: text(&body, "token").map_err(blocked)?,
        domain: body["domain"].as_str().map(str::to_owned),
        name,
    })
}
