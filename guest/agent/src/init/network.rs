//! The guest's network: loopback at once, `eth0` when `configure` says so.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use agent_protocol::control::{MAX_HOSTS, Network};
use agent_protocol::net::parse_mac;

use super::files;
use super::netlink::{NetlinkError, Request, Route};

/// Index of the loopback device: the kernel registers it first.
const LOOPBACK_INDEX: u32 = 1;

/// Why the network is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The microVM has no network device.
    #[error("The microVM has no network device eth0: {0}.")]
    NoDevice(#[source] io::Error),
    /// The prefix length or a hardware address is unusable.
    #[error("The {0} of the network is unusable.")]
    BadValue(&'static str),
    /// The kernel refuses a setting.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file cannot be written.
    #[error("{path} cannot be written: {error}.")]
    File {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Brings the loopback device up.
pub fn loopback_up() -> Result<(), NetlinkError> {
    Route::open()?.send(&Request::link_up(LOOPBACK_INDEX))
}

/// Gives `eth0` its static configuration, and the resolver its servers.
pub fn configure(network: &Network) -> Result<(), NetworkError> {
    if !(1..=32).contains(&network.prefix) {
        return Err(NetworkError::BadValue("prefix length"));
    }
    let gateway_mac = match &network.mac {
        Some(text) => {
            Some(parse_mac(text).ok_or(NetworkError::BadValue("gateway's hardware address"))?)
        }
        None => None,
    };
    let index =
        fs::read_to_string("/sys/class/net/eth0/ifindex").map_err(NetworkError::NoDevice)?;
    let index = index
        .trim()
        .parse()
        .map_err(|_| NetworkError::BadValue("interface index"))?;
    // Nothing of IPv6 leaves a sandbox: its router solicitations would be noise. Kernels without IPv6 have no file.
    let _ = fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
    let route = Route::open()?;
    route.send(&Request::address(index, network.address, network.prefix))?;
    route.send(&Request::link_up(index))?;
    if let Some(mac) = gateway_mac {
        route.send(&Request::neighbour(index, network.gateway, mac))?;
    }
    route.send(&Request::default_route(index, network.gateway))?;
    // Unprivileged `ping`, as systemd allows it.
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    if network.dns.is_empty() {
        Ok(())
    } else {
        write_resolver(&network.dns)
    }
}

fn write_resolver(servers: &[Ipv4Addr]) -> Result<(), NetworkError> {
    let path = "/etc/resolv.conf";
    // The template's may be a link to a file of a resolver service that does not run here.
    files::replace(path, &resolver_text(servers))
        .map_err(|error| NetworkError::File { path, error })
}

fn resolver_text(servers: &[Ipv4Addr]) -> String {
    servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect()
}

/// Text of `/etc/hosts` for a host name, with the names of `others` at its end.
pub fn hosts_text(hostname: &str, others: &BTreeMap<String, Ipv4Addr>) -> String {
    let own = format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    );
    let others = others
        .iter()
        .filter(|(name, _)| is_name(name))
        .take(MAX_HOSTS);
    others.fold(own, |text, (name, address)| {
        format!("{text}{address}\t{name}\n")
    })
}

/// Whether a name can stand in a line of `/etc/hosts` (hosts(5)) without becoming two.
fn is_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    !name.is_empty() && name.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_resolvers_format() {
        insta::assert_snapshot!(
            resolver_text(&[Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 1, 1, 1)]),
            @"
        nameserver 8.8.8.8
        nameserver 1.1.1.1
        "
        );
        let hosts = [
            ("flights.internal", [198, 18, 0, 7]),
            ("a b", [198, 18, 0, 8]),
        ];
        let hosts = hosts.map(|(name, address)| (name.to_owned(), address.into()));
        insta::assert_snapshot!(
            hosts_text("box", &hosts.into()),
            @r"
        127.0.0.1	localhost
        127.0.1.1	box
        ::1	localhost ip6-localhost ip6-loopback
        ff02::1	ip6-allnodes
        ff02::2	ip6-allrouters
        198.18.0.7	flights.internal
        "
        );
    }

    #[test]
    fn unusable_values_are_named() {
        let network = Network {
            prefix: 33,
            ..Network::standard(vec![])
        };
        assert!(matches!(
            configure(&network),
            Err(NetworkError::BadValue("prefix length"))
        ));
        let network = Network {
            mac: Some("x".into()),
            ..Network::standard(vec![])
        };
        assert!(matches!(
            configure(&network),
            Err(NetworkError::BadValue("gateway's hardware address"))
        ));
    }
}
