//! What is taken off and put on a request and an answer. Pure.
//!
//! Headers that concern one connection only (RFC 9110, 7.6.1) are taken off in both directions, and those that
//! `Connection` names. An upgrade is put on again for the one protocol that was asked for, except `h2c`: behind it a
//! client could speak to the guest unseen.

use std::net::IpAddr;

use http::header::{
    CONNECTION, EXPECT, Entry, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Uri};

use super::access::TRAFFIC_TOKEN;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes off what concerns one connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
}

/// The protocol that a request or answer switches to, if any.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(UPGRADE).filter(|_| asked)?;
    let text = protocol.to_str().ok()?;
    let h2c = text
        .split(',')
        .any(|name| name.trim().to_ascii_lowercase().starts_with("h2"));
    (!h2c).then(|| protocol.clone())
}

/// Makes a client's headers those of a request to a guest port. `mask` is the host that it shall seem to come for.
pub fn to_guest(headers: &mut HeaderMap, uri: &Uri, peer: IpAddr, mask: Option<&str>, port: u16) {
    let protocol = upgrade(headers);
    let trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("trailers"));
    strip(headers);
    // The daemon's server has said "100 Continue" by reading the body; the guest gets the body in any case.
    headers.remove(EXPECT);
    headers.remove(TRAFFIC_TOKEN);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    switch(headers, protocol);
    // HTTP/2 has no Host; HTTP/1.1 must have one (RFC 9112, 3.2).
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    if let Some(host) = authority.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(HOST, host);
    }
    if let Some(mask) = mask
        && let Ok(masked) = HeaderValue::from_str(&mask.replace("${PORT}", &port.to_string()))
        && let Some(original) = headers.insert(HOST, masked)
    {
        headers.insert(FORWARDED_HOST, original);
    }
    let mut chain = peer.to_string();
    if let Entry::Occupied(former) = headers.entry(FORWARDED_FOR) {
        let former: Vec<_> = former.iter().filter_map(|v| v.to_str().ok()).collect();
        chain = format!("{}, {chain}", former.join(", "));
    }
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// Makes a guest's headers those of an answer to a client.
pub fn to_client(headers: &mut HeaderMap, switching: bool) {
    let protocol = upgrade(headers).filter(|_| switching);
    strip(headers);
    switch(headers, protocol);
}

fn switch(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// The request target for the guest: path and query only.
pub fn target(uri: &Uri) -> Uri {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::{target, to_client, to_guest};

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn text(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.join("\n")
    }

    fn sent(pairs: &[(&str, &str)], uri: &'static str, mask: Option<&str>) -> String {
        let mut headers = map(pairs);
        let peer = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        to_guest(&mut headers, &Uri::from_static(uri), peer, mask, 8_080);
        text(&headers)
    }

    #[test]
    fn what_concerns_one_connection_stays_behind() {
        insta::assert_snapshot!(sent(&[
            ("host", "8080-i1.x"), ("connection", "keep-alive, X-Private"), ("x-private", "1"),
            ("keep-alive", "timeout=5"), ("te", "gzip, trailers"), ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"), ("expect", "100-continue"), ("e2b-traffic-access-token", "t"),
            ("x-api-key", "mine"), ("x-forwarded-for", "203.0.113.9"),
        ], "/", None), @r"
        host: 8080-i1.x
        te: trailers
        x-api-key: mine
        x-forwarded-for: 203.0.113.9, 192.0.2.1
        ");
    }

    #[test]
    fn an_upgrade_is_passed_on_unless_it_hides_http2() {
        insta::assert_snapshot!(
            sent(&[("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")], "/", None),
            @r"
        connection: upgrade
        host: a
        upgrade: websocket
        x-forwarded-for: 192.0.2.1
        "
        );
        let smuggled = [
            ("host", "a"),
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
        ];
        insta::assert_snapshot!(sent(&smuggled, "/", None), @r"
        host: a
        x-forwarded-for: 192.0.2.1
        ");
        let unasked = [("host", "a"), ("upgrade", "websocket")];
        assert!(!sent(&unasked, "/", None).contains("upgrade"));
    }

    #[test]
    fn the_host_is_the_authority_or_the_mask() {
        insta::assert_snapshot!(sent(&[], "http://8080-i1.x:3000/a?b", Some("localhost:${PORT}")), @r"
        host: localhost:8080
        x-forwarded-for: 192.0.2.1
        x-forwarded-host: 8080-i1.x:3000
        ");
        assert_eq!(target(&Uri::from_static("http://a/b?c")), "/b?c");
        assert_eq!(target(&Uri::from_static("http://a")), "/");
    }

    #[test]
    fn an_answer_keeps_its_upgrade_only_when_it_switches() {
        let pairs = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("a", "1"),
        ];
        let mut switching = map(&pairs);
        to_client(&mut switching, true);
        assert_eq!(switching.len(), 3);
        let mut plain = map(&pairs);
        to_client(&mut plain, false);
        assert_eq!(text(&plain), "a: 1");
    }
}
