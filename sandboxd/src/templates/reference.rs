//! How clients name a template.
//!
//! ```text
//!   reference = [ namespace "/" ] name [ ":" tag ]
//!   namespace, name = 1*( a-z 0-9 - _ )        tag = 1*( a-z 0-9 - _ . )
//! ```
//!
//! Surrounding blanks are cut off and upper case is lowered first (E2B: template and snapshot names).

/// The tag that a reference without one means.
pub const DEFAULT_TAG: &str = "default";

/// Longest reference (E2B: template name, 128 characters), and room for a namespace.
const MAX_LEN: usize = 256;

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Before the slash.
    pub namespace: Option<String>,
    /// The template's id or alias.
    pub name: String,
    /// Behind the colon.
    pub tag: Option<String>,
}

impl Reference {
    /// Reads a reference; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() > MAX_LEN {
            return None;
        }
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (text.as_str(), None),
        };
        let (namespace, name) = match path.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, path),
        };
        let valid = is_word(name, false)
            && namespace.is_none_or(|n| is_word(n, false))
            && tag.is_none_or(|t| is_word(t, true));
        valid.then(|| Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
        })
    }
}

fn is_word(text: &str, dots: bool) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'-' | b'_')
                || dots && b == b'.'
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Reference;

    #[test]
    fn reads_the_documented_forms() {
        let plain = Reference::parse(" Base ").unwrap();
        assert_eq!((plain.name.as_str(), plain.tag), ("base", None));
        let full = Reference::parse("team/my_tool:v1.2").unwrap();
        assert_eq!(full.namespace.as_deref(), Some("team"));
        assert_eq!(full.name, "my_tool");
        assert_eq!(full.tag.as_deref(), Some("v1.2"));
        for bad in [
            "", ":", "a:", ":a", "/a", "a/", "a/b/c", "a b", "a:b:c", "../x", "ä",
        ] {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,300}") {
            let _ = Reference::parse(&text);
        }
    }
}
