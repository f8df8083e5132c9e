//! What is tested, and how to reach it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::outside::{Outside, OutsideError};
use crate::wire::dial::{Way, WayError};

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
    /// How connections are made.
    pub way: Way,
    /// Servers outside of all sandboxes.
    pub outside: Outside,
    /// Address of the API for the content of volumes, where it is not where the API says or is.
    pub volume_url: Option<String>,
    /// The words that say how connections are made and what is outside, as they are typed.
    pub options: Vec<String>,
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
    /// A file of roots (PEM) to trust beside those of the web.
    pub ca: Option<PathBuf>,
    /// Addresses of names: `HOST:ADDRESS` or `*.DOMAIN:ADDRESS`.
    #[serde(default)]
    pub resolve: Vec<String>,
    /// Two servers outside of all sandboxes, by address.
    pub outside: Option<String>,
    /// Their names.
    pub outside_names: Option<String>,
    /// Address of the API for the content of volumes.
    pub volume_url: Option<String>,
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
    #[error("`{0}` is not an address like https://host or http://host:port")]
    Url(String),
    /// A domain that cannot be used.
    #[error("`{0}` is not a domain like example.com, example.com:8443 or http://example.com")]
    Domain(String),
    /// Roots or names that cannot be used.
    #[error(transparent)]
    Way(#[from] WayError),
    /// Servers outside that cannot be used.
    #[error(transparent)]
    Outside(#[from] OutsideError),
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
    /// The words for what is not the default.
    fn options(&self) -> Vec<String> {
        let ca = self.ca.iter().map(|path| path.display().to_string());
        let all = [
            ("--ca", ca.collect()),
            ("--resolve", self.resolve.clone()),
            ("--outside", self.outside.clone().into_iter().collect()),
            (
                "--outside-names",
                self.outside_names.clone().into_iter().collect(),
            ),
            (
                "--volume-url",
                self.volume_url.clone().into_iter().collect(),
            ),
        ];
        all.into_iter()
            .flat_map(|(flag, values): (_, Vec<String>)| {
                values
                    .into_iter()
                    .flat_map(move |value| [flag.to_owned(), value])
            })
            .collect()
    }

    /// The target, if enough is said.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn target(self) -> Result<Target, TargetError> {
        let options = self.options();
        let url = address(&self.url.ok_or(TargetError::NoUrl)?)?;
        let api_key = self
            .api_key
            .filter(|key| !key.is_empty())
            .ok_or(TargetError::NoKey)?;
        let patience = self.patience.unwrap_or(1.0);
        if !(0.1..=1000.0).contains(&patience) {
            return Err(TargetError::Patience(patience));
        }
        let way = Way::new(self.ca.as_deref(), &self.resolve)?;
        let door = match (self.sandbox_url, self.domain) {
            (Some(url), domain) => Door::Shared {
                url: address(&url)?,
                domain: match domain {
                    Some(domain) => below(&domain)?.authority(),
                    None => "sandbox.test".to_owned(),
                },
            },
            (None, Some(domain)) => below(&domain)?.door(),
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
            way,
            options,
            outside: Outside::read(self.outside.as_deref(), self.outside_names.as_deref())?,
            volume_url: self.volume_url.as_deref().map(address).transpose()?,
        })
    }
}

/// A domain as it is given: `[SCHEME://]DOMAIN[:PORT]`.
struct Below {
    scheme: &'static str,
    domain: String,
    port: Option<u16>,
}

impl Below {
    fn authority(self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.domain),
            None => self.domain,
        }
    }

    fn door(self) -> Door {
        Door::Names {
            scheme: self.scheme.to_owned(),
            port: self.port,
            domain: self.domain,
        }
    }
}

/// Without a scheme it is https, as clients take it.
fn below(text: &str) -> Result<Below, TargetError> {
    let wrong = || TargetError::Domain(text.to_owned());
    let (scheme, rest) = match text.split_once("://") {
        None => ("https", text),
        Some(("https", rest)) => ("https", rest),
        Some(("http", rest)) => ("http", rest),
        Some(_) => return Err(wrong()),
    };
    let authority: http::uri::Authority =
        rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let domain = authority.host();
    if domain.is_empty() || domain.contains(['[', '*']) || authority.as_str().contains('@') {
        return Err(wrong());
    }
    Ok(Below {
        scheme,
        domain: domain.to_owned(),
        port: authority.port_u16(),
    })
}

fn address(text: &str) -> Result<String, TargetError> {
    let text = text.trim_end_matches('/');
    let wrong = || TargetError::Url(text.to_owned());
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.host().is_none() || uri.path().len() > 1 {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(domain: &str) -> Result<Door, TargetError> {
        let file = TargetFile {
            url: Some("https://api.example.com".to_owned()),
            api_key: Some("key".to_owned()),
            domain: Some(domain.to_owned()),
            ..TargetFile::default()
        };
        file.target().map(|target| target.door)
    }

    #[test]
    fn a_domain_is_https_unless_it_says_otherwise() {
        for (text, scheme, domain, port) in [
            ("example.com", "https", "example.com", None),
            ("example.com:8443", "https", "example.com", Some(8443)),
            ("https://example.com/", "https", "example.com", None),
            ("http://localhost:3000", "http", "localhost", Some(3000)),
        ] {
            let wanted = Door::Names {
                scheme: scheme.to_owned(),
                port,
                domain: domain.to_owned(),
            };
            assert_eq!(door(text).unwrap(), wanted, "{text}");
        }
        for wrong in [
            "ftp://example.com",
            "*.example.com",
            "a b",
            "",
            "user@example.com",
        ] {
            assert!(door(wrong).is_err(), "{wrong}");
        }
    }
}
