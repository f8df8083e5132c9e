//! Which paths are closed to clients, and which ports ask for a token. Pure.

use agent_protocol::ENVD_PORT;
use http::HeaderMap;

use crate::ids::secrets_equal;

/// Header that carries the token of a sandbox's private ports.
pub const TRAFFIC_TOKEN: &str = "e2b-traffic-access-token";

/// Header that carries the token of the agent's services.
pub const ACCESS_TOKEN: &str = "x-access-token";

/// Paths of the agent that only the daemon may use.
const INTERNAL: [&str; 7] = [
    "/init",
    "/freeze",
    "/unfreeze",
    "/fsfreeze",
    "/fsthaw",
    "/collapse",
    "/upgrade",
];

/// Why a request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The path is internal; as it reads once cleaned.
    Internal(String),
    /// The traffic token is missing.
    TokenMissing,
    /// The traffic token is not the sandbox's.
    TokenInvalid,
}

/// Judges a request to a port.
pub fn judge(
    port: u16,
    path: &str,
    headers: &HeaderMap,
    traffic_token: Option<&str>,
) -> Result<(), Denied> {
    if port == ENVD_PORT {
        let cleaned = clean(path);
        return if INTERNAL.contains(&cleaned.as_str()) {
            Err(Denied::Internal(cleaned))
        } else {
            Ok(())
        };
    }
    let Some(expected) = traffic_token else {
        return Ok(());
    };
    match headers.get(TRAFFIC_TOKEN).map(|value| value.to_str()) {
        None => Err(Denied::TokenMissing),
        Some(Ok(token)) if secrets_equal(token, expected) => Ok(()),
        Some(_) => Err(Denied::TokenInvalid),
    }
}

/// Whether a request to a port may wake a sandbox: what the agent serves asks for the sandbox's token, other ports have
/// been judged already (E2B).
pub fn may_wake(port: u16, headers: &HeaderMap, access_token: Option<&str>) -> bool {
    let Some(expected) = access_token.filter(|_| port == ENVD_PORT) else {
        return true;
    };
    let token = headers.get(ACCESS_TOKEN).and_then(|v| v.to_str().ok());
    token.is_some_and(|token| secrets_equal(token, expected))
}

/// A path as the strictest server would understand it: decoded until nothing changes, without empty, `.` and `..`
/// segments and without a slash at its end.
fn clean(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    loop {
        let decoded = decode(&bytes);
        if decoded == bytes {
            break;
        }
        bytes = decoded;
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Undoes one layer of percent-encoding; what is malformed stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1).zip(bytes.get(at + 2));
        let decoded = pair
            .filter(|_| byte == b'%')
            .and_then(|(high, low)| Some(digit(*high)? * 16 + digit(*low)?));
        out.push(decoded.unwrap_or(byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{Denied, clean, judge};

    fn envd(path: &str) -> Result<(), Denied> {
        judge(49_983, path, &HeaderMap::new(), Some("token"))
    }

    #[test]
    fn internal_paths_are_closed_however_they_are_written() {
        for path in [
            "/init",
            "//init",
            "/init/",
            "/./init",
            "/a/../init",
            "/%69nit",
            "/%2569nit",
            "/%2Finit",
            "/files/..%2finit",
            "/upgrade",
            "/fsthaw",
        ] {
            assert!(matches!(envd(path), Err(Denied::Internal(_))), "{path}");
        }
        for path in [
            "/",
            "/health",
            "/initial",
            "/init/x",
            "/files",
            "/process.Process/Start",
        ] {
            assert_eq!(envd(path), Ok(()), "{path}");
        }
        assert_eq!(judge(8_080, "/init", &HeaderMap::new(), None), Ok(()));
    }

    #[test]
    fn private_ports_ask_for_the_token() {
        let with = |token: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(super::TRAFFIC_TOKEN, HeaderValue::from_static(token));
            judge(3_000, "/", &headers, Some("right"))
        };
        assert_eq!(with("right"), Ok(()));
        assert_eq!(with("wrong"), Err(Denied::TokenInvalid));
        let none = judge(49_999, "/", &HeaderMap::new(), Some("right"));
        assert_eq!(none, Err(Denied::TokenMissing));
        assert_eq!(envd("/health"), Ok(()));
    }

    #[test]
    fn the_agents_port_asks_for_its_token_before_it_wakes_anything() {
        let with = |port, token: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                headers.insert(super::ACCESS_TOKEN, HeaderValue::from_static(token));
            }
            super::may_wake(port, &headers, expected)
        };
        assert!(with(49_983, Some("right"), Some("right")));
        assert!(!with(49_983, Some("wrong"), Some("right")));
        assert!(!with(49_983, None, Some("right")));
        assert!(with(49_983, None, None));
        assert!(with(3_000, None, Some("right")));
    }

    proptest! {
        #[test]
        fn cleaning_ends_and_is_final(path in "(/|%|2|5|f|F|\\.|init|a){0,30}") {
            let once = clean(&path);
            prop_assert_eq!(&clean(&once), &once);
            prop_assert!(once.starts_with('/') && !once.contains("//"));
        }
    }
}
