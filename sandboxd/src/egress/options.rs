//! The network options of a request, checked, and the policy they mean. Pure.
//!
//! ```text
//!   allow_internet_access   absent → the daemon's default    true → out unless listed    false → in unless listed
//!   network.allowOut        IPv4 addresses and networks, names of internal services; let out whatever else is said
//!   network.denyOut         IPv4 addresses and networks; `0.0.0.0/0` turns the default to "in"
//! ```
//!
//! Options of the E2B API that need a proxy which is not there yet (domains, `rules`, `egressProxy`, `dnsServers`,
//! `httpsPorts`) are refused by name unless they are empty.

use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Net, Policy, Verdict};
use crate::services::Services;

/// Most entries of one list.
const MAX_ENTRIES: usize = 256;

/// Longest host name (RFC 1035, 2.3.4), with a port.
const MAX_HOST: usize = 261;

/// `network` of a create request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NetworkRequest {
    /// IPv4 addresses and networks that are let out, and names of this host's internal services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// IPv4 addresses and networks that are kept in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// Whether anyone may reach the sandbox's ports; `false` asks for the traffic token on all but 49983.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_public_traffic: Option<bool>,
    /// Host that requests to the sandbox's ports seem to come for; `${PORT}` stands for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Not supported; must be absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Value>,
    /// Not supported; must be absent or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<Value>,
    /// Not supported; must be absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Value>,
    /// Not supported; must be absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_ports: Option<Value>,
}

/// Body of `PUT /sandboxes/{id}/network`: replaces the whole set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NetworkUpdate {
    /// IPv4 addresses and networks that are let out, and names of this host's internal services.
    pub allow_out: Option<Vec<String>>,
    /// IPv4 addresses and networks that are kept in.
    pub deny_out: Option<Vec<String>>,
    /// Whether everything else gets out.
    #[serde(rename = "allow_internet_access")]
    pub allow_internet_access: Option<bool>,
    /// Not supported; must be absent or empty.
    pub rules: Option<Value>,
    /// Not supported; must be absent or null.
    pub egress_proxy: Option<Value>,
    /// Not supported; must be absent or empty.
    pub dns_servers: Option<Value>,
}

/// Why network options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An option that this server does not support.
    #[error("network.{0} is not supported by this server")]
    Unsupported(&'static str),
    /// A domain, where only addresses are supported.
    #[error(
        "network.allowOut: `{0}` is a domain, and this server supports IPv4 addresses, networks and the names of its internal services only"
    )]
    Domain(String),
    /// IPv6, which guests do not have.
    #[error("network.{list}: `{entry}` is IPv6, and sandboxes have IPv4 only")]
    Ipv6 {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// Neither an address nor a network.
    #[error("network.{list}: `{entry}` is not an IPv4 address or network")]
    NotAnAddress {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// The unspecified address.
    #[error("network.{list}: `{entry}` is unspecified; write 0.0.0.0/0 for all addresses")]
    Unspecified {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// Too many entries.
    #[error("network.{0} has more than {MAX_ENTRIES} entries")]
    TooMany(&'static str),
    /// Not a host.
    #[error("network.maskRequestHost: `{0}` is not an ASCII host with an optional port")]
    MaskRequestHost(String),
}

/// Network options of a sandbox, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What it may reach.
    pub policy: Policy,
    /// Whether anyone may reach its ports.
    pub allow_public_traffic: bool,
    /// Host that requests seem to come for.
    pub mask_request_host: Option<String>,
}

impl Options {
    /// The options of a create request.
    pub fn check(
        network: &NetworkRequest,
        allow_internet_access: Option<bool>,
        default: Verdict,
        services: &Services,
    ) -> Result<Self, OptionsError> {
        refuse("rules", network.rules.as_ref())?;
        refuse("egressProxy", network.egress_proxy.as_ref())?;
        refuse("dnsServers", network.dns_servers.as_ref())?;
        refuse("httpsPorts", network.https_ports.as_ref())?;
        if let Some(host) = &network.mask_request_host
            && !is_host(&host.replace("${PORT}", "65535"))
        {
            return Err(OptionsError::MaskRequestHost(shortened(host)));
        }
        Ok(Self {
            policy: policy(
                network.allow_out.as_deref(),
                network.deny_out.as_deref(),
                allow_internet_access,
                default,
                services,
            )?,
            allow_public_traffic: network.allow_public_traffic.unwrap_or(true),
            mask_request_host: network.mask_request_host.clone(),
        })
    }
}

impl NetworkUpdate {
    /// The policy that replaces the former one.
    pub fn check(&self, default: Verdict, services: &Services) -> Result<Policy, OptionsError> {
        refuse("rules", self.rules.as_ref())?;
        refuse("egressProxy", self.egress_proxy.as_ref())?;
        refuse("dnsServers", self.dns_servers.as_ref())?;
        policy(
            self.allow_out.as_deref(),
            self.deny_out.as_deref(),
            self.allow_internet_access,
            default,
            services,
        )
    }
}

fn policy(
    allow: Option<&[String]>,
    deny: Option<&[String]>,
    internet: Option<bool>,
    default: Verdict,
    services: &Services,
) -> Result<Policy, OptionsError> {
    let allow = nets("allowOut", allow.unwrap_or_default(), |name| {
        services.net(name)
    })?;
    let mut deny = nets("denyOut", deny.unwrap_or_default(), |_| None)?;
    let mut default = match internet {
        Some(true) => Verdict::Allow,
        Some(false) => Verdict::Deny,
        None => default,
    };
    if deny.contains(&Net::ALL) {
        default = Verdict::Deny;
        deny.clear();
    }
    Ok(Policy {
        default,
        allow,
        deny,
    })
}

fn refuse(name: &'static str, value: Option<&Value>) -> Result<(), OptionsError> {
    if value.is_none_or(is_empty) {
        Ok(())
    } else {
        Err(OptionsError::Unsupported(name))
    }
}

/// Whether a value asks for nothing.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn nets(
    list: &'static str,
    entries: &[String],
    named: impl Fn(&str) -> Option<Net>,
) -> Result<Vec<Net>, OptionsError> {
    if entries.len() > MAX_ENTRIES {
        return Err(OptionsError::TooMany(list));
    }
    let mut nets = entries
        .iter()
        .map(|entry| match named(entry.trim()) {
            Some(net) => Ok(net),
            None => net(list, entry.trim()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    nets.sort_unstable();
    nets.dedup();
    Ok(nets)
}

fn net(list: &'static str, text: &str) -> Result<Net, OptionsError> {
    let entry = shortened(text);
    if let Ok(net) = text.parse::<Net>() {
        let unspecified = net.address.is_unspecified() && net != Net::ALL;
        return if unspecified {
            Err(OptionsError::Unspecified { list, entry })
        } else {
            Ok(net)
        };
    }
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let looks_numeric = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b".:/".contains(&b));
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        Err(OptionsError::Ipv6 { list, entry })
    } else if list == "allowOut" && !text.is_empty() && !looks_numeric {
        Err(OptionsError::Domain(entry))
    } else {
        Err(OptionsError::NotAnAddress { list, entry })
    }
}

impl Net {
    /// All addresses.
    pub const ALL: Self = Self {
        address: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
    };
}

/// A text is not an IPv4 address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an IPv4 address or network such as 192.0.2.0/24")]
pub struct NotANet;

impl FromStr for Net {
    type Err = NotANet;

    /// Reads `a.b.c.d` or `a.b.c.d/n`; bits behind the prefix are cleared.
    fn from_str(text: &str) -> Result<Self, NotANet> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                (address, prefix.parse().map_err(|_| NotANet)?)
            }
            Some(_) => return Err(NotANet),
            None => (text, 32u8),
        };
        let address = u32::from(address.parse::<Ipv4Addr>().map_err(|_| NotANet)?);
        if prefix > 32 {
            return Err(NotANet);
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self {
            address: Ipv4Addr::from(address & mask),
            prefix,
        })
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    !host.is_empty()
        && text.len() <= MAX_HOST
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok())
}

/// A client's text, short enough for an error message.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
