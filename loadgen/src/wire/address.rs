//! Where a server is: `http://host:port` or `https://host:port`, nothing behind it.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Name or address, an IPv6 address in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Origin {
    /// What goes into `Host`: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        if self.port == own {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name as a resolver takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Why a text names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not an address.
    #[error("`{0}` is not an address of the form http://host:port or https://host:port")]
    Form(String),
    /// Something behind the port.
    #[error("`{0}` has a path, which the API has no place for")]
    Path(String),
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = || OriginError::Form(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        // A port that is none is passed over by the parser.
        let with_port = authority.as_str().len() > authority.host().len();
        if with_port && authority.port_u16().is_none() {
            return Err(wrong());
        }
        if uri
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/")
        {
            return Err(OriginError::Path(text.to_owned()));
        }
        Ok(Self {
            tls,
            host: authority.host().to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in [
            "http://127.0.0.1:3000",
            "https://api.e2b.app",
            "http://[::1]:80801",
        ] {
            let read = text.parse::<Origin>();
            assert_eq!(read.is_ok(), !text.ends_with("80801"), "{text}");
        }
        let origin: Origin = "http://[::1]:3000/".parse().unwrap();
        assert_eq!(
            (origin.name(), origin.to_string().as_str()),
            ("::1", "http://[::1]:3000")
        );
        let origin: Origin = "https://x.y:443".parse().unwrap();
        assert_eq!(origin.authority(), "x.y");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "localhost:3000",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x/v1",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
