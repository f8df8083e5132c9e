//! Which sandbox and port a request is for. Pure.
//!
//! ```text
//!   Host {port}-{id}[-{suffix}].{anything}     → that sandbox, whatever else is said
//!   E2b-Sandbox-Id and E2b-Sandbox-Port        → that sandbox; one without the other is an error
//!   GET, HEAD, POST /files without either      → a signed URL
//!   anything else                              → the API
//! ```

use http::{HeaderMap, Method, Uri, header};

use crate::ids::SandboxId;

/// Header that names the sandbox.
pub const SANDBOX_ID: &str = "e2b-sandbox-id";

/// Header that names the port.
pub const SANDBOX_PORT: &str = "e2b-sandbox-port";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the API.
    Api,
    /// To a port of a sandbox.
    Sandbox(Target),
    /// To the files of whichever sandbox signed its URL.
    Signed,
}

/// A port of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The sandbox.
    pub id: SandboxId,
    /// The port, at least 1.
    pub port: u16,
}

/// Why a request cannot be routed; answered as text with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The Host is that of a sandbox, but its port is not one.
    #[error("The port in the Host header must be a number from 1 to 65535.")]
    HostPort,
    /// The Host is that of a sandbox, but its id is not one.
    #[error("The sandbox id in the Host header must consist of lower-case letters and digits.")]
    HostId,
    /// More than one Host.
    #[error("There is more than one Host header.")]
    Hosts,
    /// One routing header without the other.
    #[error("The headers E2b-Sandbox-Id and E2b-Sandbox-Port must come together, once each.")]
    Headers,
    /// The id header is not an id.
    #[error("The header E2b-Sandbox-Id must be a sandbox id.")]
    HeaderId,
    /// The port header is not a port.
    #[error("The header E2b-Sandbox-Port must be a number from 1 to 65535.")]
    HeaderPort,
}

/// Routes a request.
pub fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Route, RouteError> {
    if let Some(host) = host(uri, headers)?
        && let Some(target) = by_host(host)?
    {
        return Ok(Route::Sandbox(target));
    }
    if let Some(target) = by_headers(headers)? {
        return Ok(Route::Sandbox(target));
    }
    let reads_or_writes = matches!(*method, Method::GET | Method::HEAD | Method::POST);
    if reads_or_writes && uri.path() == "/files" {
        return Ok(Route::Signed);
    }
    Ok(Route::Api)
}

/// The authority that a request is for: HTTP/2's, or the one Host header.
pub fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, RouteError> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    match hosts.next() {
        Some(_) => Err(RouteError::Hosts),
        None => Ok(host),
    }
}

/// Reads `{port}-{id}[-{suffix}].{anything}`; `None` when the host has another form and so is the API's.
fn by_host(host: &str) -> Result<Option<Target>, RouteError> {
    let Some((label, _)) = host.split_once('.') else {
        return Ok(None);
    };
    let Some((port, id)) = label.split_once('-') else {
        return Ok(None);
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    Ok(Some(Target {
        port: parse_port(port).ok_or(RouteError::HostPort)?,
        id: SandboxId::parse(id).ok_or(RouteError::HostId)?,
    }))
}

fn by_headers(headers: &HeaderMap) -> Result<Option<Target>, RouteError> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next();
        match values.next() {
            Some(_) => Err(RouteError::Headers),
            None => Ok(value),
        }
    };
    let (id, port) = match (one(SANDBOX_ID)?, one(SANDBOX_PORT)?) {
        (None, None) => return Ok(None),
        (Some(id), Some(port)) => (id, port),
        _ => return Err(RouteError::Headers),
    };
    let id = id.to_str().ok().and_then(SandboxId::parse);
    let port = port.to_str().ok().and_then(parse_port);
    Ok(Some(Target {
        id: id.ok_or(RouteError::HeaderId)?,
        port: port.ok_or(RouteError::HeaderPort)?,
    }))
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, Uri};
    use proptest::prelude::*;

    use super::{Route, RouteError, route};

    fn said(host: &str, pairs: &[(&'static str, &str)], path: &str) -> Result<String, RouteError> {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert("host", HeaderValue::from_str(host).unwrap());
        }
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let uri: Uri = path.parse().unwrap();
        Ok(match route(&Method::GET, &uri, &headers)? {
            Route::Api => "API".to_owned(),
            Route::Sandbox(target) => format!("{} {}", target.id, target.port),
            Route::Signed => "signed".to_owned(),
        })
    }

    const ID: (&str, &str) = ("e2b-sandbox-id", "iabc");
    const PORT: (&str, &str) = ("e2b-sandbox-port", "3000");

    #[test]
    fn the_host_names_a_sandbox() {
        let to = |host| said(host, &[], "/");
        assert_eq!(to("49983-iabc.example.com").unwrap(), "iabc 49983");
        assert_eq!(to("49983-iabc-00000000.x:8080").unwrap(), "iabc 49983");
        assert_eq!(to("8-iabc.").unwrap(), "iabc 8");
        for api in [
            "localhost:3000",
            "127.0.0.1",
            "api.example.com",
            "my-api.example.com",
            "[::1]:3000",
            "",
            "80-x",
        ] {
            assert_eq!(to(api).unwrap(), "API", "{api}");
        }
        assert_eq!(to("0-iabc.x"), Err(RouteError::HostPort));
        assert_eq!(to("65536-iabc.x"), Err(RouteError::HostPort));
        assert_eq!(to("80-IABC.x"), Err(RouteError::HostId));
        assert_eq!(to("80-.x"), Err(RouteError::HostId));
    }

    #[test]
    fn headers_name_a_sandbox_together() {
        let to = |pairs: &[(&'static str, &str)]| said("sandbox.x", pairs, "/health");
        assert_eq!(to(&[ID, PORT]).unwrap(), "iabc 3000");
        assert_eq!(to(&[ID]), Err(RouteError::Headers));
        assert_eq!(to(&[PORT]), Err(RouteError::Headers));
        assert_eq!(to(&[ID, ID, PORT]), Err(RouteError::Headers));
        assert_eq!(
            to(&[("e2b-sandbox-id", "A"), PORT]),
            Err(RouteError::HeaderId)
        );
        assert_eq!(
            to(&[ID, ("e2b-sandbox-port", "+1")]),
            Err(RouteError::HeaderPort)
        );
        assert_eq!(said("80-iother.x", &[ID, PORT], "/").unwrap(), "iother 80");
        assert_eq!(said("a.x", &[("host", "b.x")], "/"), Err(RouteError::Hosts));
    }

    #[test]
    fn files_without_a_name_are_signed_and_the_rest_is_the_api() {
        assert_eq!(said("localhost", &[], "/files?path=a").unwrap(), "signed");
        assert_eq!(
            said("localhost", &[ID, PORT], "/files").unwrap(),
            "iabc 3000"
        );
        assert_eq!(said("localhost", &[], "/files/x").unwrap(), "API");
        assert_eq!(said("", &[], "http://80-iabc.x/files").unwrap(), "iabc 80");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_takes_port_zero(host in "[0-9a-z.:-]{0,40}", id in ".{0,20}", port in ".{0,8}") {
            let mut headers = HeaderMap::new();
            for (name, text) in [("host", &host), ("e2b-sandbox-id", &id), ("e2b-sandbox-port", &port)] {
                if let Ok(value) = HeaderValue::from_str(text) { headers.insert(name, value); }
            }
            if let Ok(Route::Sandbox(target)) = route(&Method::GET, &Uri::from_static("/"), &headers) {
                prop_assert!(target.port > 0);
            }
        }
    }
}
