//! Whom to measure.

use std::time::Duration;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

use crate::wire::address::{Origin, OriginError};

/// A server, and how to reach the sandboxes behind it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its control API.
    pub api: Origin,
    /// How sandboxes are reached.
    pub route: Route,
    /// The key, sensitive.
    pub key: HeaderValue,
    /// Template of the sandboxes.
    pub template: String,
    /// Bounds of calls.
    pub limits: Limits,
}

/// How a sandbox's port is reached.
#[derive(Debug, Clone)]
pub enum Route {
    /// One address for all, `E2b-Sandbox-Id` and `E2b-Sandbox-Port` say which.
    Headers(Origin),
    /// `{port}-{id}.{domain}`.
    Domain {
        /// Whether over TLS.
        tls: bool,
        /// Domain.
        domain: String,
        /// Port.
        port: u16,
    },
}

/// The longest that calls may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls that start, stop or copy a machine.
    pub life: Duration,
    /// A command, a file, a piece of code.
    pub call: Duration,
    /// Life of a sandbox in seconds, should nobody be left to kill it.
    pub sandbox_seconds: u32,
}

/// Why a target cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The address is none.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The key cannot be sent.
    #[error("the API key holds characters that no header can: {0}")]
    Key(#[from] InvalidHeaderValue),
}

impl Target {
    /// Makes a target. Without a sandbox address or domain, sandboxes are reached by headers at the API's own address.
    ///
    /// # Errors
    /// When an address or the key is of no use.
    pub fn new(
        url: &str,
        key: &str,
        sandbox_url: Option<&str>,
        domain: Option<&str>,
        template: &str,
        limits: Limits,
    ) -> Result<Self, TargetError> {
        let api: Origin = url.parse()?;
        let route = match (sandbox_url, domain) {
            (Some(url), _) => Route::Headers(url.parse()?),
            (None, Some(domain)) => {
                let scheme = if api.tls { "https" } else { "http" };
                let origin: Origin = format!("{scheme}://{domain}").parse()?;
                Route::Domain {
                    tls: api.tls,
                    domain: origin.host,
                    port: origin.port,
                }
            }
            (None, None) => Route::Headers(api.clone()),
        };
        let mut key = HeaderValue::from_str(key)?;
        key.set_sensitive(true);
        Ok(Self {
            api,
            route,
            key,
            template: template.to_owned(),
            limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        life: Duration::from_secs(1),
        call: Duration::from_secs(1),
        sandbox_seconds: 60,
    };

    fn target(
        key: &str,
        sandbox_url: Option<&str>,
        domain: Option<&str>,
    ) -> Result<Target, TargetError> {
        Target::new("https://api.x.y", key, sandbox_url, domain, "base", LIMITS)
    }

    #[test]
    fn sandboxes_are_reached_as_was_said() {
        let headers = target("k", Some("http://x:1"), Some("x.y")).unwrap();
        assert!(matches!(headers.route, Route::Headers(origin) if origin.port == 1));
        let domain = target("k", None, Some("x.y")).unwrap();
        assert!(matches!(
            domain.route,
            Route::Domain {
                tls: true,
                port: 443,
                ..
            }
        ));
        let neither = target("k", None, None).unwrap();
        assert!(matches!(neither.route, Route::Headers(origin) if origin.host == "api.x.y"));
    }

    #[test]
    fn a_key_is_not_shown_and_a_bad_one_refused() {
        assert!(!format!("{:?}", target("hidden", None, None).unwrap()).contains("hidden"));
        assert!(target("a\nb", None, None).is_err());
    }
}
