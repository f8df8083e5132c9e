//! What network options mean, and which are refused.

use proptest::prelude::*;
use serde_json::json;

use super::{Net, NetworkRequest, NetworkUpdate, Options, Services, Verdict};

fn services() -> Services {
    Services::new(vec!["flights.mock.internal=h:1".parse().unwrap()]).unwrap()
}

fn check(network: serde_json::Value, internet: Option<bool>) -> Result<Options, String> {
    let network: NetworkRequest = serde_json::from_value(network).map_err(|e| e.to_string())?;
    Options::check(&network, internet, Verdict::Deny, &services()).map_err(|e| e.to_string())
}

fn meaning(network: serde_json::Value, internet: Option<bool>) -> String {
    let policy = check(network, internet).unwrap().policy;
    let list = |nets: &[Net]| {
        nets.iter()
            .map(Net::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "{:?} allow[{}] deny[{}]",
        policy.default,
        list(&policy.allow),
        list(&policy.deny)
    )
}

#[test]
fn the_default_is_the_daemons_until_the_request_speaks() {
    insta::assert_snapshot!(meaning(json!({}), None), @"Deny allow[] deny[]");
    insta::assert_snapshot!(meaning(json!({}), Some(true)), @"Allow allow[] deny[]");
    insta::assert_snapshot!(
        meaning(json!({"allowOut": ["1.1.1.1", "9.9.9.9/24", "1.1.1.1/32"]}), Some(false)),
        @"Deny allow[1.1.1.1/32 9.9.9.0/24] deny[]"
    );
    insta::assert_snapshot!(
        meaning(json!({"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0", "8.8.8.8"]}), Some(true)),
        @"Deny allow[1.1.1.1/32] deny[]"
    );
    insta::assert_snapshot!(
        meaning(json!({"denyOut": ["8.8.8.8"], "rules": {}, "egressProxy": null, "httpsPorts": []}), Some(true)),
        @"Allow allow[] deny[8.8.8.8/32]"
    );
}

#[test]
fn an_internal_service_is_opened_by_its_name_and_nothing_else_is() {
    insta::assert_snapshot!(
        meaning(json!({"allowOut": ["Flights.mock.internal", "1.1.1.1"]}), None),
        @"Deny allow[1.1.1.1/32 198.19.106.10/32] deny[]"
    );
    let denied = check(json!({"denyOut": ["flights.mock.internal"]}), None).unwrap_err();
    assert!(denied.contains("not an IPv4 address"), "{denied}");
}

#[test]
fn what_is_not_supported_or_wrong_is_named() {
    let said: Vec<_> = [
        json!({"allowOut": ["example.com"]}),
        json!({"allowOut": ["*.example.com"]}),
        json!({"allowOut": ["2001:db8::/32"]}),
        json!({"allowOut": ["1.2.3.4/33"]}),
        json!({"denyOut": ["example.com"]}),
        json!({"denyOut": ["0.0.0.0"]}),
        json!({"rules": {"a.com": []}}),
        json!({"egressProxy": {"address": "a:1"}}),
        json!({"dnsServers": ["1.1.1.1"]}),
        json!({"httpsPorts": [443]}),
        json!({"maskRequestHost": "a b"}),
        json!({"allowOut": vec!["1.1.1.1"; 257]}),
        json!({"allowedOut": []}),
    ]
    .into_iter()
    .map(|network| check(network, None).unwrap_err())
    .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    network.allowOut: `example.com` is a domain, and this server supports IPv4 addresses, networks and the names of its internal services only
    network.allowOut: `*.example.com` is a domain, and this server supports IPv4 addresses, networks and the names of its internal services only
    network.allowOut: `2001:db8::/32` is IPv6, and sandboxes have IPv4 only
    network.allowOut: `1.2.3.4/33` is not an IPv4 address or network
    network.denyOut: `example.com` is not an IPv4 address or network
    network.denyOut: `0.0.0.0` is unspecified; write 0.0.0.0/0 for all addresses
    network.rules is not supported by this server
    network.egressProxy is not supported by this server
    network.dnsServers is not supported by this server
    network.httpsPorts is not supported by this server
    network.maskRequestHost: `a b` is not an ASCII host with an optional port
    network.allowOut has more than 256 entries
    unknown field `allowedOut`, expected one of `allowOut`, `denyOut`, `allowPublicTraffic`, `maskRequestHost`, `rules`, `egressProxy`, `dnsServers`, `httpsPorts`
    ");
}

#[test]
fn a_mask_may_hold_the_port() {
    for good in ["localhost:${PORT}", "example.com", "a-b.c_d:80"] {
        assert!(
            check(json!({"maskRequestHost": good}), None).is_ok(),
            "{good}"
        );
    }
    for bad in [
        "", ":80", "a:70000", "a:b", "ä.de", "a\r\nb", "a/b", "[::1]:80",
    ] {
        assert!(
            check(json!({"maskRequestHost": bad}), None).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn an_update_replaces_the_whole_set() {
    let update: NetworkUpdate =
        serde_json::from_value(json!({"denyOut": ["8.8.8.8"], "allow_internet_access": true}))
            .unwrap();
    let policy = update.check(Verdict::Deny, &services()).unwrap();
    assert_eq!(policy.default, Verdict::Allow);
    assert_eq!((policy.allow.len(), policy.deny.len()), (0, 1));
}

proptest! {
    #[test]
    fn networks_round_trip_with_their_host_bits_cleared(address in any::<u32>(), prefix in 0u8..=32) {
        let text = format!("{}/{prefix}", std::net::Ipv4Addr::from(address));
        let net: Net = text.parse().unwrap();
        prop_assert_eq!(net.to_string().parse::<Net>(), Ok(net));
        let shift = 32 - u32::from(prefix);
        prop_assert_eq!(u32::from(net.address).checked_shr(shift), address.checked_shr(shift));
        prop_assert_eq!(u64::from(u32::from(net.address)) % (1u64 << shift), 0);
    }

    #[test]
    fn entries_never_panic(entry in ".{0,60}") {
        let _ = check(json!({"allowOut": [&entry], "denyOut": [&entry], "maskRequestHost": &entry}), None);
    }
}
