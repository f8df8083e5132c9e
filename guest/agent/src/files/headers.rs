//! Headers that describe a file: `Content-Type` from the name, `Content-Disposition`.

use std::path::Path;

/// The media type by extension; text types say that they are UTF-8. Unknown ones are bytes.
pub fn content_type(path: &Path) -> String {
    match mime_guess::from_path(path).first() {
        Some(kind) if kind.type_() == "text" && kind.get_param("charset").is_none() => {
            format!("{kind}; charset=utf-8")
        }
        Some(kind) => kind.to_string(),
        None => "application/octet-stream".to_owned(),
    }
}

/// `inline; filename=…`: as a token where the name is one, quoted where that suffices, else percent-encoded
/// UTF-8 (RFC 6266, RFC 8187).
pub fn content_disposition(name: &str) -> String {
    if !name.is_empty() && name.bytes().all(is_token) {
        format!("inline; filename={name}")
    } else if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("inline; filename=\"{quoted}\"")
    } else {
        let encoded: String = name
            .bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        format!("inline; filename*=utf-8''{encoded}")
    }
}

/// RFC 9110 token characters.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn types_follow_the_extension() {
        for (name, expected) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.html", "text/html; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.png", "image/png"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("archive.tar.gz", "application/gzip"),
            ("none", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn names_are_written_as_simply_as_they_allow() {
        for (name, expected) in [
            ("a.txt", "inline; filename=a.txt"),
            ("a b.txt", "inline; filename=\"a b.txt\""),
            ("a\"b", "inline; filename=\"a\\\"b\""),
            ("ä.txt", "inline; filename*=utf-8''%C3%A4.txt"),
            ("a\nb", "inline; filename*=utf-8''a%0Ab"),
        ] {
            assert_eq!(content_disposition(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_makes_a_valid_header(name in "\\PC*|[\\x00-\\x7f]*") {
            prop_assert!(HeaderValue::from_str(&content_disposition(&name)).is_ok());
            prop_assert!(HeaderValue::from_str(&content_type(Path::new(&name))).is_ok());
        }
    }
}
