//! Path templates: `/flights/{id}/price`.

use std::collections::BTreeMap;

use loadgen::e2b::api::percent;

/// A path with parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    // Order matters: what is fixed is tried before what takes anything.
    Fixed(String),
    Parameter(String),
}

impl Template {
    /// Reads a template.
    pub fn new(path: &str) -> Self {
        let segment = |part: &str| match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) => Segment::Parameter(name.to_owned()),
            None => Segment::Fixed(part.to_owned()),
        };
        Self {
            segments: path.split('/').skip(1).map(segment).collect(),
        }
    }

    /// Parameters by name, percent-decoded, when `path` is one of this template. An empty segment is no parameter.
    pub fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut parts = path.split('/').skip(1);
        let mut found = BTreeMap::new();
        for segment in &self.segments {
            let part = decode(parts.next()?);
            match segment {
                Segment::Fixed(text) if *text == part => {}
                Segment::Parameter(name) if !part.is_empty() => {
                    found.insert(name.clone(), part);
                }
                _ => return None,
            }
        }
        parts.next().is_none().then_some(found)
    }

    /// The names of all parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Fixed(_) => None,
        })
    }

    /// The path in which each parameter has its value by `value`.
    pub fn fill<'a>(&'a self, value: impl Fn(&'a str) -> &'a str) -> String {
        let part = |segment: &'a Segment| match segment {
            Segment::Fixed(text) => format!("/{}", percent(text)),
            Segment::Parameter(name) => format!("/{}", percent(value(name))),
        };
        self.segments.iter().map(part).collect()
    }

    /// The name of the last parameter.
    pub fn last_parameter(&self) -> Option<&str> {
        self.parameters().last()
    }

    /// How many parts of `path` are other, missing or too many.
    pub fn distance(&self, path: &str) -> usize {
        let parts: Vec<_> = path.split('/').skip(1).map(decode).collect();
        let differs = |(segment, part): (&Segment, &String)| match segment {
            Segment::Fixed(text) => text != part,
            Segment::Parameter(_) => part.is_empty(),
        };
        let wrong = self
            .segments
            .iter()
            .zip(&parts)
            .filter(|pair| differs(*pair))
            .count();
        wrong + self.segments.len().abs_diff(parts.len())
    }

    /// How many segments are fixed: of two templates that match, the one with more wins.
    pub fn fixed(&self) -> usize {
        self.segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Fixed(_)))
            .count()
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Fixed(text) => write!(f, "/{text}"),
            Segment::Parameter(name) => write!(f, "/{{{name}}}"),
        })
    }
}

/// Percent-decoding; what is no valid escape stays as it is, what is no UTF-8 is replaced.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Query parameters in their order.
pub fn query(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (
            decode(&name.replace('+', " ")),
            decode(&value.replace('+', " ")),
        )
    };
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(pair)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_found_and_other_paths_are_not() {
        let template = Template::new("/flights/{id}/price");
        assert_eq!(
            template.matches("/flights/a%20b/price").unwrap()["id"],
            "a b"
        );
        for path in [
            "/flights/x",
            "/flights//price",
            "/flights/x/price/",
            "/x/x/price",
            "",
        ] {
            assert_eq!(template.matches(path), None, "{path}");
        }
        assert_eq!(
            (template.last_parameter(), template.fixed()),
            (Some("id"), 2)
        );
    }

    #[test]
    fn queries_are_decoded() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            query("a=1&b=x+y%26&&c"),
            [pair("a", "1"), pair("b", "x y&"), pair("c", "")]
        );
    }

    proptest! {
        #[test]
        fn what_is_filled_in_is_found_again(value in "\\PC{1,20}") {
            let template = Template::new("/a b%/{id}/c");
            let found = template.matches(&template.fill(|_| &value));
            prop_assert_eq!(found.map(|mut it| it.remove("id")), Some(Some(value)));
        }

        #[test]
        fn no_path_or_query_makes_it_panic(text in "\\PC{0,40}") {
            let _ = (Template::new(&text).matches(&text), query(&text));
        }
    }
}
