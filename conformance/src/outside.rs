//! Two web servers outside of all sandboxes, by which network policies are seen to hold.

/// The two servers, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Address of the first: `https://1.1.1.1`.
    pub first: String,
    /// Address of the second.
    pub second: String,
    /// Name of the first; served on 443 and 80.
    pub first_name: String,
    /// Name of the second.
    pub second_name: String,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// Not two addresses.
    #[error(
        "--outside takes two addresses like https://1.1.1.1,http://203.0.113.3:8000, not `{0}`"
    )]
    Addresses(String),
    /// Not two names.
    #[error("--outside-names takes two names like one.example.com,two.example.net, not `{0}`")]
    Names(String),
}

impl Outside {
    /// Those that are given, else two servers that the whole internet knows.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn read(addresses: Option<&str>, names: Option<&str>) -> Result<Self, OutsideError> {
        let addresses = addresses.unwrap_or("https://1.1.1.1,https://8.8.8.8");
        let names = names.unwrap_or("one.one.one.one,dns.google");
        let (first, second) = addresses
            .split_once(',')
            .filter(|(first, second)| first != second && is_address(first) && is_address(second))
            .ok_or_else(|| OutsideError::Addresses(addresses.to_owned()))?;
        let (first_name, second_name) = names
            .split_once(',')
            .filter(|(first, second)| first != second && is_name(first) && is_name(second))
            .ok_or_else(|| OutsideError::Names(names.to_owned()))?;
        Ok(Self {
            first: first.to_owned(),
            second: second.to_owned(),
            first_name: first_name.to_owned(),
            second_name: second_name.to_owned(),
        })
    }

    /// The first one's address without scheme and port.
    #[must_use]
    pub fn first_host(&self) -> &str {
        host(&self.first)
    }

    /// The second one's address without scheme and port.
    #[must_use]
    pub fn second_host(&self) -> &str {
        host(&self.second)
    }
}

fn host(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    place.split(':').next().unwrap_or(place)
}

fn is_address(url: &str) -> bool {
    (url.starts_with("http://") || url.starts_with("https://"))
        && host(url).parse::<std::net::Ipv4Addr>().is_ok()
}

fn is_name(name: &str) -> bool {
    name.contains('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && name.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_servers_are_taken() {
        let own = Outside::read(Some("http://203.0.113.2:8000,https://203.0.113.3"), None).unwrap();
        assert_eq!(
            (own.first_host(), own.second_host()),
            ("203.0.113.2", "203.0.113.3")
        );
        for wrong in [
            "https://1.1.1.1",
            "https://a.com,https://b.com",
            "1.1.1.1,8.8.8.8",
            "https://1.1.1.1,https://1.1.1.1",
        ] {
            assert!(Outside::read(Some(wrong), None).is_err(), "{wrong}");
        }
        for wrong in ["one", "one,two", "1.1.1.1,a.b", "a.b,a.b"] {
            assert!(Outside::read(None, Some(wrong)).is_err(), "{wrong}");
        }
    }
}
