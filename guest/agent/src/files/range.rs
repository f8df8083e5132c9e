//! Which part of a file a request asks for: `Range` and the conditional headers.
//!
//! ```text
//! If-Match, If-Unmodified-Since    not met → 412
//! If-None-Match, If-Modified-Since not met → 304
//! If-Range                         not met → the whole file
//! Range: bytes=2-5 | 2- | -3       → 206 with Content-Range, or 416 when nothing of it is there
//! ```
//!
//! Files have a modification time (whole seconds) and no entity tag, so that a condition on a tag only matches
//! `*`. Several ranges in one request are answered with the whole file, which a server may do. Source: RFC 9110,
//! sections 13 and 14.

use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// 200: all of it.
    Whole,
    /// 206: `length` bytes from `start`; at least one byte.
    Part {
        /// First byte.
        start: u64,
        /// Number of bytes.
        length: u64,
    },
    /// 304: the client's copy is good.
    NotModified,
    /// 412: the file is not what the client thinks.
    PreconditionFailed,
    /// 416: no byte of the range is there.
    NotSatisfiable,
}

/// Decides from the request's headers, the file's size and its modification time in seconds since 1970.
pub fn select(headers: &HeaderMap, size: u64, modified_s: i64) -> Selection {
    if let Some(tags) = text(headers, &IF_MATCH) {
        if tags.trim() != "*" {
            return Selection::PreconditionFailed;
        }
    } else if let Some(date) = date(headers, &IF_UNMODIFIED_SINCE)
        && modified_s > date
    {
        return Selection::PreconditionFailed;
    }
    if let Some(tags) = text(headers, &IF_NONE_MATCH) {
        if tags.trim() == "*" {
            return Selection::NotModified;
        }
    } else if let Some(date) = date(headers, &IF_MODIFIED_SINCE)
        && modified_s <= date
    {
        return Selection::NotModified;
    }
    let Some(range) = text(headers, &RANGE) else {
        return Selection::Whole;
    };
    if headers.contains_key(IF_RANGE) && date(headers, &IF_RANGE) != Some(modified_s) {
        return Selection::Whole;
    }
    part(range, size)
}

/// Whether the request cares about the plain bytes: then it is not compressed.
pub fn wants_identity(headers: &HeaderMap) -> bool {
    [
        RANGE,
        IF_RANGE,
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
    ]
    .iter()
    .any(|name| headers.contains_key(name))
}

/// Reads one `bytes=` range. Anything that is not one is ignored, as the RFC wants.
fn part(range: &str, size: u64) -> Selection {
    let Some(spec) = range.trim().strip_prefix("bytes=") else {
        return Selection::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Selection::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let bounds = match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => Some((
            size.saturating_sub(suffix),
            if suffix == 0 { 0 } else { size },
        )),
        (Some(start), None) if last.is_empty() => Some((start, size)),
        (Some(start), Some(last)) if start <= last => {
            Some((start, last.saturating_add(1).min(size)))
        }
        _ => None,
    };
    match bounds {
        None => Selection::Whole,
        Some((start, end)) if start < end => Selection::Part {
            start,
            length: end - start,
        },
        Some(_) => Selection::NotSatisfiable,
    }
}

/// Digits only: `u64::from_str` would also take a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An HTTP date in seconds since 1970.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    let text = text(headers, name)?;
    let parsed = DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(parsed.as_second())
}

/// `Last-Modified` for a time in seconds since 1970, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(seconds: i64) -> Option<String> {
    let timestamp = Timestamp::from_second(seconds).ok()?;
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const NOV_6: i64 = 784_111_777;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn dates_are_written_and_read_as_http_does() {
        assert_eq!(http_date(NOV_6).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        let written = headers(&[(IF_RANGE, "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(date(&written, &IF_RANGE), Some(NOV_6));
    }

    #[test]
    fn ranges_pick_bytes() {
        for (range, expected) in [
            (
                "bytes=0-0",
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            (
                "bytes=2-5",
                Selection::Part {
                    start: 2,
                    length: 4,
                },
            ),
            (
                "bytes=2-",
                Selection::Part {
                    start: 2,
                    length: 8,
                },
            ),
            (
                "bytes=-3",
                Selection::Part {
                    start: 7,
                    length: 3,
                },
            ),
            (
                "bytes=-30",
                Selection::Part {
                    start: 0,
                    length: 10,
                },
            ),
            (
                "bytes=5-500",
                Selection::Part {
                    start: 5,
                    length: 5,
                },
            ),
            ("bytes=10-", Selection::NotSatisfiable),
            ("bytes=-0", Selection::NotSatisfiable),
            ("bytes=5-2", Selection::Whole),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("lines=1-2", Selection::Whole),
            ("bytes=99999999999999999999-", Selection::Whole),
        ] {
            assert_eq!(
                select(&headers(&[(RANGE, range)]), 10, 0),
                expected,
                "{range}"
            );
        }
    }

    #[test]
    fn conditions_decide_before_the_range() {
        let at = "Sun, 06 Nov 1994 08:49:37 GMT";
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        let range = (RANGE, "bytes=0-0");
        for (given, expected) in [
            ((IF_MODIFIED_SINCE, at), Selection::NotModified),
            (
                (IF_MODIFIED_SINCE, before),
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            (
                (IF_UNMODIFIED_SINCE, at),
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            ((IF_UNMODIFIED_SINCE, before), Selection::PreconditionFailed),
            ((IF_NONE_MATCH, "*"), Selection::NotModified),
            (
                (IF_NONE_MATCH, "\"x\""),
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            ((IF_MATCH, "\"x\""), Selection::PreconditionFailed),
            (
                (IF_MATCH, "*"),
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            (
                (IF_RANGE, at),
                Selection::Part {
                    start: 0,
                    length: 1,
                },
            ),
            ((IF_RANGE, before), Selection::Whole),
            ((IF_RANGE, "\"x\""), Selection::Whole),
        ] {
            let all = headers(&[range.clone(), given.clone()]);
            assert!(wants_identity(&all));
            assert_eq!(select(&all, 10, NOV_6), expected, "{given:?}");
        }
        assert!(!wants_identity(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_outside(range in "bytes=[0-9]{0,20}-[0-9]{0,20}", size: u64) {
            if let Selection::Part { start, length } = select(&headers(&[(RANGE, &range)]), size, 0) {
                prop_assert!(length > 0);
                prop_assert!(start.checked_add(length).is_some_and(|end| end <= size));
            }
        }

        #[test]
        fn any_header_is_taken_without_panic(range in "\\PC{0,40}", size: u64) {
            if let Ok(value) = HeaderValue::from_str(&range) {
                let headers = HeaderMap::from_iter([(RANGE, value.clone()), (IF_RANGE, value)]);
                select(&headers, size, 0);
            }
        }
    }
}
