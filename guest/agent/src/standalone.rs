//! Stand-alone mode, for developers: the services of the guest on a TCP port of this machine, without a microVM.
//!
//! ```text
//!   guest-agent --standalone [--listen 127.0.0.1:49983] [--user NAME] [--token TOKEN] [--code-interpreter]
//! ```
//!
//! Programs really run on this machine as the user the client names, so it listens on a loopback address only. With
//! `E2B_DEBUG=true` the official SDKs use `http://localhost:49983`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::agent::Agent;
use crate::listen::loopback;
use crate::machine::Untouched;
use crate::process::Processes;
use crate::process::reaper::{Adoption, Reaper};
use crate::services::Services;
use crate::state::{AccessToken, AgentState, DEFAULT_USER, Settings};

/// How to call the program.
pub const USAGE: &str = "\
usage: guest-agent --standalone [--listen ADDRESS:PORT] [--user NAME] [--token TOKEN] [--code-interpreter]

Serves the services of a sandbox on this machine, without a microVM, for development.
As PID 1 the program takes no arguments and becomes the agent of a microVM.

  --listen  loopback address and port to listen on (127.0.0.1:49983)
  --user    user of calls that name none (user)
  --token   token that clients must send as X-Access-Token (none)
  --code-interpreter  serve the code interpreter on 127.0.0.1:49999 too
";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// User of calls that name none.
    pub user: String,
    /// Token that clients must send; empty for none.
    pub token: String,
    /// Whether the code interpreter is served too.
    pub code_interpreter: bool,
}

/// Why the command line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Without `--standalone` the program only works as PID 1 of a microVM.
    #[error("Without `--standalone` the program only works as PID 1 of a microVM.")]
    NotInit,
    /// An option is unknown.
    #[error("The option `{0}` is unknown.")]
    Unknown(String),
    /// An option needs a value.
    #[error("The option `{0}` needs a value.")]
    NoValue(String),
    /// `--listen` takes a loopback address with a port.
    #[error("`--listen` takes a loopback address with a port, such as 127.0.0.1:49983; not `{0}`.")]
    BadListen(String),
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// [`UsageError`].
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, UsageError> {
    let mut options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], agent_protocol::ENVD_PORT)),
        user: DEFAULT_USER.to_owned(),
        token: String::new(),
        code_interpreter: false,
    };
    let mut standalone = false;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| UsageError::NoValue(arg.clone()));
        match arg.as_str() {
            "--standalone" => standalone = true,
            "--code-interpreter" => options.code_interpreter = true,
            "--user" => options.user = value()?,
            "--token" => options.token = value()?,
            "--listen" => {
                let text = value()?;
                options.listen = text
                    .parse()
                    .ok()
                    .filter(|address: &SocketAddr| address.ip().is_loopback())
                    .ok_or(UsageError::BadListen(text))?;
            }
            _ => return Err(UsageError::Unknown(arg)),
        }
    }
    if standalone {
        Ok(options)
    } else {
        Err(UsageError::NotInit)
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(options: Options) -> io::Result<()> {
    let settings = Settings {
        configured: true,
        access_token: AccessToken::new(options.token),
        default_user: options.user,
        code_interpreter: options.code_interpreter,
        ..Settings::default()
    };
    let reaper = Reaper::new(Adoption::OwnOnly);
    reaper.start()?;
    let state = AgentState::with_settings("/", settings);
    let agent = Agent::new(state, Processes::new(reaper, None), Box::new(Untouched));
    let runtime_dir = std::env::temp_dir().join(format!("guest-agent-{}", std::process::id()));
    let services = Services::new(agent, runtime_dir);
    services.start_interpreter().await?;
    let listener = TcpListener::bind(options.listen).await?;
    loopback::accept(listener, services.envd).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, UsageError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn defaults_are_those_of_the_sdk() {
        let options = parsed("--standalone").expect("usable");
        assert_eq!(options.listen.to_string(), "127.0.0.1:49983");
        assert_eq!(
            (options.user.as_str(), options.token.as_str()),
            ("user", "")
        );
    }

    #[test]
    fn unusable_lines_are_refused() {
        assert_eq!(parsed(""), Err(UsageError::NotInit));
        assert_eq!(
            parsed("--standalone --user"),
            Err(UsageError::NoValue("--user".into()))
        );
        assert_eq!(
            parsed("--bogus"),
            Err(UsageError::Unknown("--bogus".into()))
        );
        for address in ["0.0.0.0:1", "10.0.0.1:1", "localhost", "127.0.0.1"] {
            let line = format!("--standalone --listen {address}");
            assert_eq!(parsed(&line), Err(UsageError::BadListen(address.into())));
        }
    }
}
