//! The header with which a trusted front says who calls, before the first byte of a connection (PROXY protocol, version 2).
//!
//! ```text
//!   signature: 12 │ version, command: 1 │ family: 1 │ length: 2 │ addresses, as the family says │ values: type 1, length 2, bytes …
//!                                                                                                  E5: id of the sandbox
//! ```
//!
//! Source: haproxy, doc/proxy-protocol.txt, 2.2. sandboxd writes such headers in front of calls to its internal services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version, command, family and length.
const FIXED: usize = 16;
/// Longest rest that is read; fronts write a few dozen bytes.
const MAX_REST: usize = 2048;
/// Longest id that is taken.
const MAX_ID: usize = 128;
/// Type of the value that is the sandbox's id.
const SANDBOX_ID: u8 = 0xE5;

/// Why a connection has no such header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The connection ended, or failed.
    #[error("no whole PROXY header came: {0}")]
    Io(#[from] std::io::Error),
    /// Something else.
    #[error("the first bytes are no PROXY header of version 2")]
    Other,
    /// Too long.
    #[error("the PROXY header has {0} bytes, more than {MAX_REST}")]
    Long(usize),
}

/// Reads the header of a connection and gives the caller's name: the sandbox's id where the front tells one, else the
/// address that it tells, else nothing.
///
/// # Errors
/// [`HeaderError`]; the connection is of no use then.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<String>, HeaderError> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let (command, family, length) = begin(&fixed)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    Ok(caller(command, family, &rest))
}

/// Command, family and length of the rest.
fn begin(fixed: &[u8; FIXED]) -> Result<(u8, u8, usize), HeaderError> {
    let [.., version_command, family, high, low] = *fixed;
    if fixed[..12] != SIGNATURE || version_command >> 4 != 2 {
        return Err(HeaderError::Other);
    }
    match usize::from(u16::from_be_bytes([high, low])) {
        length @ 0..=MAX_REST => Ok((version_command & 0xF, family, length)),
        length => Err(HeaderError::Long(length)),
    }
}

/// Who calls, by what stands behind the fixed part.
fn caller(command: u8, family: u8, rest: &[u8]) -> Option<String> {
    // LOCAL: the front itself, which asks whether anybody is there.
    if command != 1 {
        return None;
    }
    let (address, values) = match family >> 4 {
        1 => {
            let (addresses, values) = rest.split_first_chunk::<12>()?;
            let [a, b, c, d, ..] = *addresses;
            (Some(IpAddr::from(Ipv4Addr::new(a, b, c, d))), values)
        }
        2 => {
            let (addresses, values) = rest.split_first_chunk::<36>()?;
            let source: [u8; 16] = *addresses.first_chunk()?;
            (Some(IpAddr::from(Ipv6Addr::from(source))), values)
        }
        3 => (None, rest.get(216..)?),
        _ => (None, rest),
    };
    sandbox_id(values).or(address.map(|address| format!("peer:{address}")))
}

fn sandbox_id(mut values: &[u8]) -> Option<String> {
    while let Some(([kind, high, low], after)) = values.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = after.get(..length)?;
        if *kind == SANDBOX_ID {
            let id = std::str::from_utf8(value).ok()?;
            let fits = (1..=MAX_ID).contains(&id.len()) && !id.contains(|c: char| c.is_control());
            return fits.then(|| id.to_owned());
        }
        values = &after[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    fn read_now(bytes: &[u8]) -> Result<(Option<String>, usize), HeaderError> {
        let mut rest = bytes;
        let read = read(&mut rest);
        let caller = now(read)?;
        Ok((caller, rest.len()))
    }

    /// A slice is always ready.
    fn now<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    const V4: [u8; 12] = [10, 213, 0, 2, 198, 18, 0, 7, 0x9c, 0x41, 0, 80];

    #[test]
    fn the_sandbox_is_known_by_its_id_and_others_by_their_address() {
        let id = [&V4[..], &[4, 0, 1, 7], &[0xE5, 0, 4], b"iabc"].concat();
        let whole = [header(1, 0x11, &id), b"GET /".to_vec()].concat();
        assert_eq!(read_now(&whole).unwrap(), (Some("iabc".to_owned()), 5));
        let plain = header(1, 0x11, &V4);
        let peer = Some("peer:10.213.0.2".to_owned());
        assert_eq!(read_now(&plain).unwrap().0, peer);
        let v6 = [&[0; 15][..], &[1], &[0; 20]].concat();
        let peer = Some("peer:::1".to_owned());
        assert_eq!(read_now(&header(1, 0x21, &v6)).unwrap().0, peer);
        assert_eq!(read_now(&header(0, 0, b"")).unwrap().0, None);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert!(matches!(
            read_now(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
            Err(HeaderError::Other)
        ));
        assert!(matches!(read_now(b"\r\n"), Err(HeaderError::Io(_))));
        let long = header(1, 0x11, &[0; MAX_REST + 1]);
        assert!(matches!(read_now(&long), Err(HeaderError::Long(2049))));
    }

    proptest! {
        #[test]
        fn any_rest_is_survived(command in 0..16u8, family in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(name) = caller(command, family, &rest) {
                prop_assert!(!name.is_empty() && name.len() <= MAX_ID);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_now(&bytes);
        }
    }
}
