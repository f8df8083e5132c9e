//! `mock-apis journal` and `mock-apis reset`: clients of the admin API.

use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::CliError;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Admin address of the server.
    #[arg(long, default_value = "127.0.0.1:8901")]
    admin: SocketAddr,
    /// Calls of this caller alone.
    #[arg(long)]
    caller: Option<String>,
    /// As an HTTP archive, of all callers.
    #[arg(long, conflicts_with = "caller")]
    har: bool,
}

/// Prints the journal.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    let path = match (&args.caller, args.har) {
        (_, true) => "/journal.har".to_owned(),
        (Some(caller), _) => format!("/journal?caller={}", escape(caller)),
        (None, _) => "/journal".to_owned(),
    };
    let text = ask(args.admin, Method::GET, &path).await?;
    super::out::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Resets the server.
pub async fn reset(admin: SocketAddr) -> Result<ExitCode, CliError> {
    ask(admin, Method::POST, "/reset").await?;
    Ok(ExitCode::SUCCESS)
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

async fn ask(admin: SocketAddr, method: Method, path: &str) -> Result<Bytes, CliError> {
    let wrong = || CliError::Admin(admin);
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{admin}{path}"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| wrong())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.map_err(|_| wrong())?;
    if !response.status().is_success() {
        return Err(wrong());
    }
    Ok(response
        .into_body()
        .collect()
        .await
        .map_err(|_| wrong())?
        .to_bytes())
}
