//! Traffic to sandboxes.

mod passing;
mod protocols;
mod refusals;
mod routing;

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::check::{Check, Stop};
use crate::context::Context;
use crate::sandbox::{Process, Sandbox, shell};

pub use routing::shared_door;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        passing::CHECKS,
        protocols::CHECKS,
        refusals::CHECKS,
        routing::CHECKS,
    ]
    .concat()
}

/// The server that runs in the sandbox; needs python3 there.
const ECHO: &str = include_str!("../../../assets/echo_server.py");

/// Starts the echo server on a port and waits until it answers. Dropping the process leaves it running.
pub async fn serve(
    c: &Context,
    sandbox: &Sandbox,
    port: u16,
    address: &str,
) -> Result<Process, Stop> {
    let process = launch(c, sandbox, port, address, 0.0).await?;
    for _ in 0..100 {
        let mut request = sandbox.port(c, Method::GET, port, "/ready");
        if let Some(token) = &sandbox.traffic_token {
            request = request.header("e2b-traffic-access-token", token.clone());
        }
        if c.send(request).await?.status.as_u16() == 200 {
            return Ok(process);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Stop::Untestable(format!(
        "the echo server on port {port} is not reached; is python3 in the template?"
    )))
}

/// Starts the echo server, to listen so many seconds later.
async fn launch(
    c: &Context,
    sandbox: &Sandbox,
    port: u16,
    address: &str,
    after: f64,
) -> Result<Process, Stop> {
    let path = format!("/tmp/echo-{port}.py");
    sandbox.put(c, &path, ECHO.as_bytes()).await?;
    let command = format!("python3 {path} {port} {address} {after}");
    let started = sandbox.start(c, &shell(&command, json!({}))).await;
    started.map_err(|stop| stop.blocks("the echo server did not start"))
}
