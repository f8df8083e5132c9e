//! Internal services: programs beside the daemon that sandboxes may call by name, such as mock APIs or a package mirror.
//!
//! ```text
//!   --internal-service flights.mock.internal=127.0.0.1:8900
//!
//!   guest: http://flights.mock.internal/ ─► /etc/hosts: 198.18.x.y ─► TAP, policy ─► [front] ─► PROXY v2 header ─► 127.0.0.1:8900
//!                                            (address of the name)    eBPF            │
//!                                                             peer address ─► slot ─► sandbox
//! ```
//!
//! A sandbox reaches a service only when its network options name it (`allowOut`), whatever else they open. Who calls is told
//! to the service by the daemon, from the interface that the packets came through; nothing that a guest writes changes it.
//! The address of a name is the same on every host and after every restart, as guests keep it.

pub mod front;
mod proxy_header;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use netguard::services::{MAX, RANGE};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::egress::{Net, Policy};

/// Longest name of a service (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label of a name (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Service {
    /// Name by which guests call it.
    pub name: String,
    /// Host and port that it listens at, seen from the daemon.
    pub target: String,
}

/// All services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(Vec<Service>);

/// Why there is no such service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Not of the form.
    #[error("`{0}` is not NAME=HOST:PORT, such as flights.mock.internal=127.0.0.1:8900")]
    Form(String),
    /// Not a name.
    #[error(
        "`{0}` cannot be the name of a service: it must be a domain of two labels or more, of lower-case letters, digits \
         and hyphens"
    )]
    Name(String),
    /// Two services of one name.
    #[error("the service `{0}` is named twice")]
    Twice(String),
    /// Two names of one address.
    #[error("the names `{0}` and `{1}` have one address: choose another for one of them")]
    Collision(String, String),
    /// Too many.
    #[error("there are more than {MAX} services")]
    TooMany,
    /// No network.
    #[error(
        "sandboxes without a network reach no services: leave out --no-network or --internal-service"
    )]
    NoNetwork,
}

impl Service {
    /// Its address, as guests know it.
    pub fn address(&self) -> Ipv4Addr {
        address_of(&self.name)
    }
}

/// The address of a name: the same always and everywhere.
fn address_of(name: &str) -> Ipv4Addr {
    let digest = Sha256::digest(name.as_bytes());
    let drawn = digest
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte));
    // Neither the first of the range, which is the network's, nor the last, which is for broadcasts.
    let hosts = (1_u32 << (32 - u32::from(RANGE.prefix_len()))) - 2;
    Ipv4Addr::from(u32::from(RANGE.network()) + 1 + drawn % hosts)
}

impl Services {
    /// Checks them together.
    pub fn new(services: Vec<Service>) -> Result<Self, ServiceError> {
        if services.len() > MAX {
            return Err(ServiceError::TooMany);
        }
        let mut taken: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
        for Service { name, .. } in &services {
            match taken.insert(address_of(name), name) {
                None => {}
                Some(other) if other == name => return Err(ServiceError::Twice(name.clone())),
                Some(other) => {
                    return Err(ServiceError::Collision(other.to_owned(), name.clone()));
                }
            }
        }
        Ok(Self(services))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// The network that is the service of this name, which need not be in lower case.
    pub fn net(&self, name: &str) -> Option<Net> {
        let service = self
            .iter()
            .find(|service| service.name.eq_ignore_ascii_case(name))?;
        Some(host(service.address()))
    }

    /// What guests know of them.
    pub fn hosts(&self) -> BTreeMap<String, Ipv4Addr> {
        self.iter()
            .map(|service| (service.name.clone(), service.address()))
            .collect()
    }
}

/// A network of one address.
fn host(address: Ipv4Addr) -> Net {
    Net {
        address,
        prefix: 32,
    }
}

/// Whether a sandbox with this policy was given the service at `address` by name. To have everything is not enough.
fn is_given(policy: &Policy, address: Ipv4Addr) -> bool {
    policy.allow.contains(&host(address))
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let form = || ServiceError::Form(text.chars().take(300).collect());
        let (name, target) = text.split_once('=').ok_or_else(form)?;
        let (host, port) = target.rsplit_once(':').ok_or_else(form)?;
        let host_fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace());
        if !host_fits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(form());
        }
        if !is_name(name) {
            return Err(ServiceError::Name(name.chars().take(300).collect()));
        }
        Ok(Self {
            name: name.to_owned(),
            target: target.to_owned(),
        })
    }
}

fn is_name(name: &str) -> bool {
    let fits = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= MAX_NAME
        && name.contains('.')
        && name.split('.').all(fits)
        // An IPv4 address is no name.
        && !last.bytes().all(|b| b.is_ascii_digit())
}

impl TryFrom<String> for Service {
    type Error = ServiceError;

    fn try_from(text: String) -> Result<Self, ServiceError> {
        text.parse()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Verdict;
    use proptest::prelude::*;

    #[test]
    fn a_service_is_read_as_it_is_written() {
        for good in [
            "flights.mock.internal=127.0.0.1:8900",
            "a.b=[::1]:80",
            "x-1.y=localhost:65535",
        ] {
            assert_eq!(good.parse::<Service>().unwrap().to_string(), good);
        }
        let long = format!("{}.b=h:1", "a".repeat(64));
        let said: Vec<_> = [
            "flights.mock.internal",
            "a.b=host",
            "a.b=:80",
            "a.b=h:0",
            "a.b=h:65536",
            "ab=h:1",
            "A.b=h:1",
            "a..b=h:1",
            "-a.b=h:1",
            "1.2.3.4=h:1",
            "a b.c=h:1",
            "a.b\n=h:1",
            &long,
        ]
        .into_iter()
        .map(|bad| bad.parse::<Service>().unwrap_err().to_string())
        .collect();
        assert!(said[..5].iter().all(|text| text.contains("NAME=HOST:PORT")));
        assert!(said[5..].iter().all(|text| text.contains("two labels")));
    }

    #[test]
    fn the_address_of_a_name_never_changes() {
        // Guests that were paused years ago know it.
        assert_eq!(
            address_of("flights.mock.internal"),
            Ipv4Addr::new(198, 19, 106, 10)
        );
    }

    #[test]
    fn names_that_clash_are_refused() {
        let service = |name: &str| format!("{name}=h:1").parse::<Service>().unwrap();
        let twice = Services::new(vec![service("a.b"), service("a.b")]);
        assert_eq!(twice, Err(ServiceError::Twice("a.b".to_owned())));
        let mut seen: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        let (first, second) = (0..)
            .find_map(|n| {
                let name = format!("n{n}.internal");
                let first = seen.insert(address_of(&name), name.clone())?;
                Some((first, name))
            })
            .unwrap();
        let clash = Services::new(vec![service(&first), service(&second)]);
        assert_eq!(clash, Err(ServiceError::Collision(first, second)));
        let many = (0..=MAX).map(|n| service(&format!("m{n}.internal")));
        assert_eq!(Services::new(many.collect()), Err(ServiceError::TooMany));
    }

    #[test]
    fn a_sandbox_with_everything_was_given_no_service() {
        let address = address_of("a.b");
        let policy = |allow| Policy {
            default: Verdict::Allow,
            allow,
            deny: Vec::new(),
        };
        assert!(!is_given(&policy(vec![]), address));
        assert!(!is_given(&policy(vec![Net::ALL]), address));
        assert!(is_given(&policy(vec![host(address)]), address));
    }

    proptest! {
        #[test]
        fn every_name_has_an_address_within_the_range(name in ".{0,40}") {
            let address = address_of(&name);
            prop_assert!(RANGE.contains(&address));
            prop_assert!(address != RANGE.network() && address != RANGE.broadcast());
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            if let Ok(service) = text.parse::<Service>() {
                prop_assert_eq!(service.to_string(), text);
            }
        }
    }
}
