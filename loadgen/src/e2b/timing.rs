//! What a server says of its own time: the `Server-Timing` header (W3C Server Timing).
//!
//! ```text
//!   queue;dur=0.012, restore;dur=9.3;desc="…", other;dur=0.4, total;dur=41.2
//! ```
//!
//! `total` is the sum of the others by convention and is kept apart from them. The header is the server's: it is bounded, and
//! what does not fit is passed over.

use http::HeaderMap;

/// Most spans that are taken of one answer.
const MAX_SPANS: usize = 64;
/// Longest name.
const MAX_NAME: usize = 40;
/// Longest span that is believed, in milliseconds: a day.
const MAX_MS: f64 = 86_400_000.0;

/// Spans in the order in which they were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// Names and nanoseconds; none within another.
    pub stages: Vec<(String, u64)>,
    /// The whole as the server saw it.
    pub total: Option<u64>,
}

/// Reads the spans of a reply.
#[must_use]
pub fn read(headers: &HeaderMap) -> Spans {
    let mut spans = Spans::default();
    for value in headers.get_all("server-timing") {
        let Ok(text) = value.to_str() else { continue };
        for entry in text.split(',') {
            if let Some((name, nanos)) = span(entry) {
                if name == "total" {
                    spans.total = Some(nanos);
                } else if spans.stages.len() < MAX_SPANS {
                    match spans.stages.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, sum)) => *sum += nanos,
                        None => spans.stages.push((name, nanos)),
                    }
                }
            }
        }
    }
    spans
}

fn span(entry: &str) -> Option<(String, u64)> {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return None;
    }
    let millis = parts.find_map(|part| part.strip_prefix("dur=")?.parse::<f64>().ok())?;
    if !(0.0..=MAX_MS).contains(&millis) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 8.64e13"
    )]
    let nanos = (millis * 1e6).round() as u64;
    Some((name.to_owned(), nanos))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Spans {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert("server-timing", value);
        }
        read(&headers)
    }

    #[test]
    fn spans_are_read_in_order_and_the_total_apart() {
        let spans =
            told("pool;dur=0.120, resume;desc=x;dur=3.000, other;dur=1.880, total;dur=5.000, hit");
        let stages = [
            ("pool", 120_000),
            ("resume", 3_000_000),
            ("other", 1_880_000),
        ];
        assert_eq!(spans.stages, stages.map(|(name, ns)| (name.to_owned(), ns)));
        assert_eq!(spans.total, Some(5_000_000));
        assert_eq!(
            told("restart;dur=1, restart;dur=2").stages,
            [("restart".to_owned(), 3_000_000)]
        );
    }

    #[test]
    fn what_cannot_be_is_passed_over() {
        for text in [
            "a;dur=-1",
            "a;dur=NaN",
            "a;dur=1e99",
            ";dur=1",
            "<b>;dur=1",
            "a;dur",
        ] {
            assert_eq!(told(text), Spans::default(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(text in "[ -~]{0,300}") {
            prop_assert!(told(&text).stages.len() <= MAX_SPANS);
        }
    }
}
