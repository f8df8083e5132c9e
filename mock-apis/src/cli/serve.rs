//! `mock-apis serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ipnet::IpNet;

use super::CliError;
use crate::server::{Identity, Server};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file.
    scenario: PathBuf,
    /// Where requests come in; the first label of their host name is the service.
    #[arg(long, default_value = "127.0.0.1:8900")]
    listen: SocketAddr,
    /// Where the admin API is. Nothing of a guest may reach it.
    #[arg(long, default_value = "127.0.0.1:8901")]
    admin: SocketAddr,
    /// Where the same services are an MCP server.
    #[arg(long, default_value = "127.0.0.1:8902")]
    mcp: SocketAddr,
    /// Header in which a trusted front names the caller.
    #[arg(long, default_value = "x-sandbox-id")]
    identity_header: String,
    /// Networks of fronts whose header is believed; from elsewhere the caller is its address.
    #[arg(long)]
    trust_front: Vec<IpNet>,
    /// Trusted fronts begin each connection with a PROXY header (version 2), as sandboxd does for its internal services; the
    /// caller is the sandbox that it names, and headers of requests are not looked at.
    #[arg(long, requires = "trust_front")]
    proxy_header: bool,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args) -> Result<ExitCode, CliError> {
    raise_descriptors();
    let engine = super::load(&args.scenario)?;
    let identity = Identity {
        header: args.identity_header.to_ascii_lowercase(),
        trusted: args.trust_front,
        proxy: args.proxy_header,
    };
    let (listen, admin, mcp) = (args.listen, args.admin, args.mcp);
    let server = Server::start_with_mcp(engine, listen, admin, mcp, identity)
        .await
        .map_err(|error| CliError::Io(format!("{listen}, {admin} or {mcp}"), error))?;
    let mut said = format!(
        "front http://{}  admin http://{}\nmcp http://{}{}\n",
        server.front,
        server.admin,
        server.mcp,
        crate::mcp::PATH
    );
    for (name, address) in &server.services {
        said += &format!("{name} http://{address}\n");
    }
    // Nobody has to listen: the server serves all the same.
    let _ = std::io::stdout().write_all(said.as_bytes());
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| CliError::Io("Ctrl-C".into(), error))?;
    Ok(ExitCode::SUCCESS)
}

/// As many descriptors as the system allows: each hanging connection is one, and the usual soft limit is 1,024.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Refused: the limit stays, and connections beyond it wait until others end.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
