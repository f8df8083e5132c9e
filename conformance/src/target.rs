//! What is tested, and how to reach it.

use serde::Deserialize;

/// Where traffic to sandboxes goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// One address for all; the sandbox is named by headers, or by `Host` below this domain.
    Shared {
        /// The address.
        url: String,
        /// The domain.
        domain: String,
    },
    /// A host name for each port of each sandbox.
    Names {
        /// `http` or `https`.
        scheme: String,
        /// Port of the address, if not the scheme's own.
        port: Option<u16>,
        /// The domain.
        domain: String,
    },
}

/// The target of a run.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of the API, without a slash at its end.
    pub url: String,
    /// API key.
    pub api_key: String,
    /// Where traffic to sandboxes goes.
    pub door: Door,
    /// Template of the sandboxes that are made.
    pub template: String,
    /// Template with the code interpreter.
    pub interpreter_template: String,
    /// All time limits times this.
    pub patience: f64,
    /// Areas and checks that the target declares not to support.
    pub unsupported: Vec<String>,
}

/// The same from a file; flags and environment go before it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TargetFile {
    /// Address of the API.
    pub url: Option<String>,
    /// API key.
    pub api_key: Option<String>,
    /// Address for traffic to sandboxes.
    pub sandbox_url: Option<String>,
    /// Domain of the sandboxes' host names.
    pub domain: Option<String>,
    /// Template.
    pub template: Option<String>,
    /// Template with the code interpreter.
    pub interpreter_template: Option<String>,
    /// Factor on all time limits.
    pub patience: Option<f64>,
    /// Areas and checks that the target declares not to support.
    #[serde(default)]
    pub unsupported: Vec<String>,
}

/// What is wrong with a target's description.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No address.
    #[error("say what to test: --url URL, or E2B_API_URL, or `url` in a --config file")]
    NoUrl,
    /// No key.
    #[error("say with which key: --api-key KEY, or E2B_API_KEY, or `api-key` in a --config file")]
    NoKey,
    /// An address that cannot be used.
    #[error("`{0}` is not an address like http://host:port")]
    Url(String),
    /// No TLS yet.
    #[error(
        "`{0}`: this version speaks plain HTTP only; put a proxy that ends TLS between it and the target, \
         for example `socat TCP-LISTEN:3000,fork,reuseaddr OPENSSL:HOST:443`"
    )]
    Tls(String),
    /// No way to the sandboxes.
    #[error(
        "say how sandboxes are reached: --sandbox-url URL for one address with routing headers, or --domain D for \
         host names `PORT-ID.D`"
    )]
    NoDoor,
    /// Patience out of range.
    #[error("--patience takes a number from 0.1 to 1000, not {0}")]
    Patience(f64),
}

impl TargetFile {
    /// The target, if enough is said.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn target(self) -> Result<Target, TargetError> {
        let url = address(&self.url.ok_or(TargetError::NoUrl)?)?;
        let api_key = self
            .api_key
            .filter(|key| !key.is_empty())
            .ok_or(TargetError::NoKey)?;
        let patience = self.patience.unwrap_or(1.0);
        if !(0.1..=1000.0).contains(&patience) {
            return Err(TargetError::Patience(patience));
        }
        let door = match (self.sandbox_url, self.domain) {
            (Some(url), domain) => Door::Shared {
                url: address(&url)?,
                domain: domain.unwrap_or_else(|| "sandbox.test".to_owned()),
            },
            (None, Some(domain)) => Door::Names {
                scheme: "http".to_owned(),
                port: url.parse::<http::Uri>().ok().and_then(|uri| uri.port_u16()),
                domain,
            },
            (None, None) => return Err(TargetError::NoDoor),
        };
        Ok(Target {
            url,
            api_key,
            door,
            template: self.template.unwrap_or_else(|| "base".to_owned()),
            interpreter_template: self
                .interpreter_template
                .unwrap_or_else(|| "code-interpreter-v1".to_owned()),
            patience,
            unsupported: self.unsupported,
        })
    }
}

fn address(text: &str) -> Result<String, TargetError> {
    let text = text.trim_end_matches('/');
    if text.starts_with("https://") {
        return Err(TargetError::Tls(text.to_owned()));
    }
    let uri: http::Uri = text
        .parse()
        .map_err(|_| TargetError::Url(text.to_owned()))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.path().len() > 1 {
        return Err(TargetError::Url(text.to_owned()));
    }
    Ok(text.to_owned())
}
