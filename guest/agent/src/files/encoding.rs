//! Content codings of file bodies: plain, or gzip where client and request allow.
//!
//! Source: RFC 9110 section 12.5.3. Only gzip is spoken; identity is acceptable unless it is refused by name.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As the file is.
    Identity,
    /// Compressed.
    Gzip,
}

/// The coding of an answer: the one the client weighs highest, gzip before identity at equal weight. `None` when
/// the client accepts neither.
///
/// `*` alone does not ask for compression: it stands for whatever was not named, and plain bytes are cheaper.
pub fn negotiate(headers: &HeaderMap) -> Option<Coding> {
    let mut gzip = None;
    let mut identity = None;
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, weight) = weighted(item);
            match name.as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    let plain = identity.or(any).unwrap_or(1);
    let packed = gzip.unwrap_or(0);
    let fallback = gzip.or(any).unwrap_or(0);
    if packed > 0 && (identity.is_none() || packed >= plain) {
        Some(Coding::Gzip)
    } else if plain > 0 {
        Some(Coding::Identity)
    } else if fallback > 0 {
        Some(Coding::Gzip)
    } else {
        None
    }
}

/// Whether the client takes plain bytes, which it does unless it refuses them by name (or refuses everything).
pub fn takes_identity(headers: &HeaderMap) -> bool {
    let mut identity = None;
    let mut any = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            match weighted(item) {
                (name, weight) if name == "identity" => identity = Some(weight),
                (name, weight) if name == "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    identity.or(any) != Some(0)
}

/// The coding of a request body, or the name of one that is not spoken.
///
/// # Errors
/// The header's text when it names anything but gzip or identity, or more than one coding.
pub fn of_request(headers: &HeaderMap) -> Result<Coding, String> {
    let Some(value) = headers.get(CONTENT_ENCODING) else {
        return Ok(Coding::Identity);
    };
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    match text.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "identity" | "" => Ok(Coding::Identity),
        _ => Err(text),
    }
}

/// A coding's name in lower case and its weight in thousandths; a weight that cannot be read counts as 1.
fn weighted(item: &str) -> (String, u16) {
    let mut parts = item.split(';');
    let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let weight = parts
        .filter_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case("q")
                .then(|| thousandths(value.trim()))
        })
        .next_back();
    (name, weight.unwrap_or(1000))
}

/// `0`, `0.5`, `1.000` in thousandths, capped at 1.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u16>(), digits.parse::<u16>()) {
        (Ok(0), Ok(fraction)) => fraction,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn accepting(text: &str) -> Option<Coding> {
        negotiate(&HeaderMap::from_iter([(
            ACCEPT_ENCODING,
            HeaderValue::from_str(text).unwrap(),
        )]))
    }

    #[test]
    fn the_client_decides() {
        assert_eq!(negotiate(&HeaderMap::new()), Some(Coding::Identity));
        for (text, expected) in [
            ("gzip, deflate", Some(Coding::Gzip)),
            ("gzip", Some(Coding::Gzip)),
            ("GZIP;q=0.5", Some(Coding::Gzip)),
            ("identity", Some(Coding::Identity)),
            ("deflate, br, zstd", Some(Coding::Identity)),
            ("gzip;q=0", Some(Coding::Identity)),
            ("gzip;q=0.2, identity;q=0.8", Some(Coding::Identity)),
            ("identity, gzip", Some(Coding::Gzip)),
            ("*", Some(Coding::Identity)),
            ("identity;q=0, *", Some(Coding::Gzip)),
            ("identity;q=0, gzip", Some(Coding::Gzip)),
            ("identity;q=0", None),
            ("identity;q=0, gzip;q=0", None),
            ("*;q=0", None),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("identity;q=0, br", None),
            ("", Some(Coding::Identity)),
        ] {
            assert_eq!(accepting(text), expected, "{text:?}");
        }
    }

    #[test]
    fn plain_bytes_are_taken_unless_refused() {
        for (text, expected) in [
            ("gzip", true),
            ("gzip, identity;q=0", false),
            ("*;q=0, gzip", false),
            ("*;q=0, identity;q=0.1", true),
        ] {
            let value = HeaderValue::from_str(text).unwrap();
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value)]);
            assert_eq!(takes_identity(&headers), expected, "{text}");
        }
    }

    #[test]
    fn request_bodies_are_gzip_or_plain() {
        let of = |text: &'static str| {
            of_request(&HeaderMap::from_iter([(
                CONTENT_ENCODING,
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(of_request(&HeaderMap::new()), Ok(Coding::Identity));
        assert_eq!(of("GZip"), Ok(Coding::Gzip));
        assert_eq!(of("identity"), Ok(Coding::Identity));
        assert_eq!(of("br"), Err("br".to_owned()));
        assert_eq!(of("gzip, gzip"), Err("gzip, gzip".to_owned()));
    }

    proptest! {
        #[test]
        fn refusing_identity_never_yields_identity(rest in "[a-z*;=,. 0-9]{0,40}") {
            let text = format!("{rest},identity;q=0");
            prop_assert_ne!(accepting(&text), Some(Coding::Identity));
        }
    }
}
