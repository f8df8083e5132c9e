//! The one line with which a host process asks for a guest port: `CONNECT <port>\n`.

/// Longest line, line feed included: `CONNECT 4294967295\n` and some slack for leading zeroes.
pub const LINE_MAX: usize = 32;

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The line has not ended yet.
    Incomplete,
    /// The line ended after `length` bytes and asks for `port`.
    Connect {
        /// Guest port.
        port: u32,
        /// Bytes of the line, line feed included.
        length: usize,
    },
    /// It is something else, or too long.
    Invalid,
}

/// Reads the beginning of what a host process sent.
pub fn parse(bytes: &[u8]) -> Greeting {
    let head = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Greeting::Incomplete
        } else {
            Greeting::Invalid
        };
    };
    let port = head[..end].strip_prefix(b"CONNECT ").and_then(port);
    port.map_or(Greeting::Invalid, |port| Greeting::Connect {
        port,
        length: end + 1,
    })
}

fn port(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    // `parse` alone would take a plus sign.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_gives_a_port() {
        let asked = Greeting::Connect {
            port: 1024,
            length: 13,
        };
        assert_eq!(parse(b"CONNECT 1024\n"), asked);
        assert_eq!(parse(b"CONNECT 1024\nCONTROL\n"), asked);
        assert_eq!(
            parse(b"CONNECT 4294967295\n"),
            Greeting::Connect {
                port: u32::MAX,
                length: 19
            }
        );
    }

    #[test]
    fn a_line_may_come_in_parts() {
        for end in 0..13 {
            assert_eq!(parse(&b"CONNECT 1024\n"[..end]), Greeting::Incomplete);
        }
    }

    #[test]
    fn anything_else_is_invalid() {
        for bad in [
            "CONNECT\n",
            "CONNECT \n",
            "CONNECT -1\n",
            "CONNECT +1\n",
            "CONNECT 1 \n",
            "CONNECT 1\r\n",
            "CONNECT 4294967296\n",
            "connect 1\n",
            "\n",
            "GET / HTTP/1.1 and much more than fits",
        ] {
            assert_eq!(parse(bad.as_bytes()), Greeting::Invalid, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_port_is_understood(port: u32, tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = format!("CONNECT {port}\n").into_bytes();
            let length = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(parse(&bytes), Greeting::Connect { port, length });
        }

        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Greeting::Connect { length, .. } = parse(&bytes) {
                prop_assert!(length <= LINE_MAX);
            }
            if bytes.len() >= LINE_MAX {
                prop_assert_ne!(parse(&bytes), Greeting::Incomplete);
            }
        }
    }
}
