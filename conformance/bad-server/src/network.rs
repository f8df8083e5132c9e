//! What machines reach: an outside of a few web servers and resolvers, and the policy of each sandbox.
//!
//! ```text
//!  special range ──► closed
//!  allowOut, by address, or by the name that is spoken on 80 and 443 ──► open
//!  denyOut ──► closed
//!  else: open, unless the internet is off
//! ```

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::guest::GATEWAY;
use crate::world::{Sandbox, World, lock};

/// Web servers outside, with the names in their certificates.
const OUTSIDE: &[(Ipv4Addr, &str)] = &[
    (Ipv4Addr::new(1, 1, 1, 1), "one.one.one.one"),
    (Ipv4Addr::new(8, 8, 8, 8), "dns.google"),
];

/// The address that clouds give their machines' secrets out at.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A policy as the API takes it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `allow_internet_access` is false.
    pub closed: bool,
    /// The network object.
    pub network: Value,
}

/// Whom a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A web server outside, by the name in its certificate.
    Web(&'static str),
    /// Something that answers inside.
    Inside,
    /// Nobody, or closed.
    None,
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().cloned().unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Whether an address is within `a.b.c.d` or `a.b.c.d/bits`.
fn within(address: Ipv4Addr, range: &str) -> bool {
    let (base, bits) = range.split_once('/').unwrap_or((range, "32"));
    let (Ok(base), Ok(bits)) = (base.parse::<Ipv4Addr>(), bits.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
    u32::from(address) & mask == u32::from(base) & mask
}

fn special(address: Ipv4Addr) -> bool {
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || within(address, "100.64.0.0/10")
}

impl Policy {
    /// What the body of a create or an update says.
    pub fn read(body: &Value, network: &Value) -> Self {
        Self {
            closed: body["allow_internet_access"] == false,
            network: network.clone(),
        }
    }

    fn by_name(&self, w: &World, name: &str) -> bool {
        let fold = |text: &str| {
            if w.on("names-with-case") {
                text.to_owned()
            } else {
                text.to_lowercase()
            }
        };
        let name = fold(name);
        texts(&self.network["allowOut"]).iter().any(|allowed| {
            let allowed = fold(allowed);
            match allowed.strip_prefix('*') {
                Some(rest) if !rest.is_empty() => !w.on("wildcard-ignored") && name.ends_with(rest),
                _ => !w.on("allowed-name-closed") && name == allowed,
            }
        })
    }

    /// Whether packets to an address pass, by what the sandbox says that it calls it.
    pub fn allows(&self, w: &World, address: Ipv4Addr, port: u16, name: Option<&str>) -> bool {
        let range = |name: &str| {
            texts(&self.network[name])
                .iter()
                .any(|range| within(address, range))
        };
        let allowed = range("allowOut");
        if special(address) {
            let open = if address == METADATA {
                w.on("metadata-opened")
            } else {
                w.on("private-ranges-opened")
            };
            return open && allowed;
        }
        let denied = range("denyOut") && !w.on("deny-ignored");
        let allowed = allowed && !(w.on("deny-wins") && denied);
        let closed = (self.closed && !w.on("internet-stays-open")) || w.on("internet-closed");
        if allowed {
            return !(self.closed && w.on("closed-wins"));
        }
        // Resolvers stay reachable while names are allowed.
        if port == 53 && denied {
            let named = texts(&self.network["allowOut"])
                .iter()
                .any(|entry| entry.trim_start_matches("*.").parse::<IpAddr>().is_err());
            let given = &self.network["dnsServers"];
            let servers = if given.is_array() && !w.on("dns-servers-ignored") {
                texts(given)
            } else {
                vec!["8.8.8.8".to_owned()]
            };
            return named && servers.contains(&address.to_string());
        }
        let spoken = name.filter(|_| port == 80 || port == 443);
        if spoken.is_some_and(|name| self.by_name(w, name)) {
            return true;
        }
        if w.on("rules-open") && spoken.is_some_and(|name| self.network["rules"][name].is_array()) {
            return true;
        }
        !denied && !closed
    }
}

/// The address of a name, as the machine's resolver has it.
pub fn resolved(host: &str) -> Option<Ipv4Addr> {
    host.parse().ok().or_else(|| {
        OUTSIDE
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(host))
            .map(|(address, _)| *address)
    })
}

/// Where a connection from a sandbox ends.
pub fn peer(
    w: &World,
    sandbox: &Sandbox,
    address: Ipv4Addr,
    port: u16,
    name: Option<&str>,
) -> Peer {
    let policy = lock(&sandbox.guest.policy).clone();
    if let Some(neighbour) = lock(&w.sandboxes)
        .values()
        .find(|other| other.guest.address == address)
    {
        let own = neighbour.id == sandbox.id;
        let listens = lock(&neighbour.services).contains_key(&port);
        return if listens && (own || w.on("neighbours-reached")) {
            Peer::Inside
        } else {
            Peer::None
        };
    }
    if address == GATEWAY && w.on("host-reached") {
        return Peer::Inside;
    }
    if address == METADATA && w.on("metadata-reached") {
        return Peer::Inside;
    }
    if !policy.allows(w, address, port, name) {
        return Peer::None;
    }
    if special(address) {
        return Peer::Inside;
    }
    // A name that opened the way leads to its own server, whatever address the sandbox believes it to have.
    let true_address = match name.filter(|name| policy.by_name(w, name)) {
        Some(name) if !w.on("spoofed-name-opens") => resolved(name).unwrap_or(address),
        _ => address,
    };
    OUTSIDE
        .iter()
        .find(|(outside, _)| *outside == true_address)
        .map_or(Peer::None, |(_, name)| Peer::Web(name))
}

/// What is wrong with a network object, at a create or an update.
pub fn refusal(w: &World, network: &Value) -> Option<&'static str> {
    let rules = network["rules"].as_object();
    if rules.is_some_and(|rules| rules.len() > 10) && !w.on("rules-unlimited") {
        return Some("rules take at most ten domains");
    }
    let wrong = texts(&network["denyOut"])
        .iter()
        .any(|text| resolved(text.split('/').next().unwrap_or("")).is_none());
    wrong.then_some("denyOut takes addresses only")
}

/// The network object as the API gives it back.
pub fn shown(w: &World, network: &Value) -> Value {
    let mut network = network.clone();
    if !w.on("proxy-password-given-back")
        && let Some(proxy) = network["egressProxy"].as_object_mut()
    {
        proxy.remove("password");
    }
    if network.is_null() {
        json!({})
    } else {
        network
    }
}
