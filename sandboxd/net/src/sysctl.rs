//! Kernel settings of the network (Documentation/networking/ip-sysctl.rst).
//!
//! Of the host one setting is changed, `net.ipv4.ip_forward`, and put back on close when it was
//! off before; everything else is set on the TAPs alone and goes with them.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Settings of each TAP: `rp_filter` drops packets whose source is not routed to this TAP, which
/// the programs already see to; the rest is what a host should not take from a guest or tell it.
const OF_TAP: [(&str, &str); 7] = [
    ("ipv6/conf/{}/disable_ipv6", "1"),
    ("ipv4/conf/{}/forwarding", "1"),
    ("ipv4/conf/{}/rp_filter", "1"),
    ("ipv4/conf/{}/accept_redirects", "0"),
    ("ipv4/conf/{}/secure_redirects", "0"),
    ("ipv4/conf/{}/send_redirects", "0"),
    ("ipv4/conf/{}/accept_source_route", "0"),
];

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Hardens a TAP.
///
/// # Errors
/// When a setting exists and cannot be written.
pub fn harden(tap: &str) -> io::Result<()> {
    for (setting, value) in OF_TAP {
        let path = PathBuf::from("/proc/sys/net").join(setting.replace("{}", tap));
        match fs::write(&path, value) {
            // A kernel without IPv6 has none of its settings.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether this host forwards packets.
///
/// # Errors
/// When the setting cannot be read.
pub fn forwards() -> io::Result<bool> {
    Ok(fs::read_to_string(IP_FORWARD)?.trim() == "1")
}

/// Lets this host forward packets, or not.
///
/// # Errors
/// When the setting cannot be written.
pub fn set_forwarding(on: bool) -> io::Result<()> {
    fs::write(IP_FORWARD, if on { "1" } else { "0" })
}
