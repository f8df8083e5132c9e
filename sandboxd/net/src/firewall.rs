//! The nftables table beside the programs: address translation, and a second wall.
//!
//! ```text
//!   guest ─► TAP ─► [from_guest] ─► forward ──► postrouting: masquerade ─► uplink
//!                                    │ to another TAP: drop
//!                                    │ source is no identity (no program ran): drop
//!                                    │ too many flows of one guest: drop
//!                        input: from a TAP to the host itself: drop, but for its services
//!   uplink ─► forward: replies only ─► [to_guest] ─► TAP ─► guest
//!   host ─► output: to a TAP only ICMP errors about forwarded packets, and replies of services
//! ```
//!
//! The table is replaced in one transaction, so that there is no moment without it. Chains of other
//! tables still apply: a host whose forward policy is drop must let the TAPs through itself.

use std::fmt;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::{link, services};

/// Tracked connections one guest may have at a time, so that none fills the host's table.
pub const FLOWS_PER_GUEST: u32 = 4096;

/// Why nftables did not do as told.
#[derive(Debug, Error)]
pub enum FirewallError {
    /// `nft` could not be run.
    #[error("nft cannot be run (apt-get install nftables): {0}")]
    Run(#[source] io::Error),
    /// `nft` refused.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// What the table is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset<'a> {
    /// Name of the table.
    pub table: &'a str,
    /// What TAP names begin with.
    pub tap_prefix: &'a str,
    /// Whether packets leave under the uplink's address.
    pub masquerade: bool,
    /// Addresses of the host's own that guests may talk with, on one port of TCP.
    pub services: &'a [Ipv4Addr],
}

impl fmt::Display for Ruleset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            tap_prefix,
            masquerade,
            services,
        } = self;
        let identities = link::identity_range();
        let (mut to_services, mut from_services) = (String::new(), String::new());
        if !services.is_empty() {
            let (port, guests) = (services::PORT, format!("iifname \"{tap_prefix}*\""));
            let services: Vec<_> = services.iter().map(Ipv4Addr::to_string).collect();
            let services = services.join(", ");
            to_services = format!(
                r#"    {guests} ip saddr {identities} ip daddr {{ {services} }} ct state new add @flows {{ ip saddr ct count over {FLOWS_PER_GUEST} }} counter drop
    {guests} ip saddr {identities} ip daddr {{ {services} }} tcp dport {port} accept
"#
            );
            from_services = format!(
                r#"    oifname "{tap_prefix}*" ip saddr {{ {services} }} tcp sport {port} ct state established accept
"#
            );
        }
        write!(
            f,
            r#"table inet {table}
delete table inet {table}
table inet {table} {{
  set flows {{
    type ipv4_addr
    size 65536
    flags dynamic
  }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
{to_services}    iifname "{tap_prefix}*" counter drop
  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname "{tap_prefix}*" oifname "{tap_prefix}*" counter drop
    iifname "{tap_prefix}*" ip saddr != {identities} counter drop
    iifname "{tap_prefix}*" meta nfproto != ipv4 counter drop
    iifname "{tap_prefix}*" ct state new add @flows {{ ip saddr ct count over {FLOWS_PER_GUEST} }} counter drop
    oifname "{tap_prefix}*" ct state established,related accept
    oifname "{tap_prefix}*" counter drop
  }}
  chain output {{
    type filter hook output priority filter - 10; policy accept;
    oifname "{tap_prefix}*" icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
{from_services}    oifname "{tap_prefix}*" counter drop
  }}
"#
        )?;
        if *masquerade {
            write!(
                f,
                r#"  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {identities} oifname != "{tap_prefix}*" masquerade
  }}
"#
            )?;
        }
        f.write_str("}\n")
    }
}

/// Puts the table in place of a former one of the same name.
///
/// # Errors
/// [`FirewallError`] with what `nft` said; the former table then stays.
pub fn install(ruleset: &Ruleset<'_>) -> Result<(), FirewallError> {
    run(&ruleset.to_string())
}

/// Removes the table; it need not exist.
///
/// # Errors
/// [`FirewallError`] with what `nft` said.
pub fn remove(table: &str) -> Result<(), FirewallError> {
    run(&format!("table inet {table}\ndelete table inet {table}\n"))
}

fn run(script: &str) -> Result<(), FirewallError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(FirewallError::Run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that was not taken whole shows in what nft says.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(FirewallError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(FirewallError::Refused(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ruleset_text() {
        let ruleset = Ruleset {
            table: "sandboxd_1a2b",
            tap_prefix: "sbx",
            masquerade: true,
            services: &[],
        };
        insta::assert_snapshot!(ruleset);
    }

    #[test]
    fn services_are_let_in_on_their_port_alone() {
        let services = [[198, 18, 0, 7], [198, 19, 1, 2]].map(Ipv4Addr::from);
        let ruleset = Ruleset {
            table: "t",
            tap_prefix: "sbx",
            masquerade: false,
            services: &services,
        };
        let text = ruleset.to_string();
        let lines: Vec<_> = text.lines().filter(|line| line.contains("198.")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn without_masquerade_there_is_no_nat_chain() {
        let ruleset = Ruleset {
            table: "t",
            tap_prefix: "sbx",
            masquerade: false,
            services: &[],
        };
        assert!(!ruleset.to_string().contains("postrouting"));
    }
}
