//! Text of reports on its way into pages: bounded, visible, escaped; and numbers as people read them.
//!
//! ```text
//!  hostile text ─► cut to a size ─► controls and direction marks made visible ─► escaped by maud (HTML) or by `markdown`, `csv`
//! ```

use std::fmt::{self, Write as _};

use maud::{Escaper, Render};

/// Characters of an identifier, a title, an address.
pub const SHORT: usize = 400;
/// Characters of a header, a reason, what was expected.
pub const LINE: usize = 2_000;
/// Characters of a body.
pub const LONG: usize = 8_192;

/// Text that came from a report, as it may be shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
    limit: usize,
}

/// An identifier, a title, an address.
#[must_use]
pub fn short(text: &str) -> Shown<'_> {
    Shown { text, limit: SHORT }
}

/// A header, a reason, what was expected.
#[must_use]
pub fn line(text: &str) -> Shown<'_> {
    Shown { text, limit: LINE }
}

/// A body.
#[must_use]
pub fn long(text: &str) -> Shown<'_> {
    Shown { text, limit: LONG }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.char_indices();
        for (_, c) in chars.by_ref().take(self.limit) {
            visible(c, f)?;
        }
        let rest = chars.next().map_or(0, |(at, _)| self.text.len() - at);
        if rest > 0 {
            write!(f, " … {rest} bytes more")?;
        }
        Ok(())
    }
}

impl Render for Shown<'_> {
    fn render_to(&self, buffer: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(Escaper::new(buffer), "{self}");
    }
}

/// Controls as their pictures; what turns, hides or joins text as its code point.
fn visible(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        '\n' | '\t' => f.write_char(c),
        '\0'..='\u{1f}' => {
            f.write_char(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'))
        }
        '\u{7f}' => f.write_char('\u{2421}'),
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => write!(f, "⟨U+{:04X}⟩", u32::from(c)),
        '\u{fdd0}'..='\u{fdef}' => f.write_char('\u{fffd}'),
        c if u32::from(c) & 0xfffe == 0xfffe => f.write_char('\u{fffd}'),
        c => f.write_char(c),
    }
}

/// A name for anchors and files: lower-case letters, digits and dashes.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(80) {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A whole number with thousands apart.
#[must_use]
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Nanoseconds as milliseconds: one decimal, three where it is below one, none where it is nothing, to the microsecond.
#[must_use]
pub fn ms(ns: u64) -> String {
    if ns < 500 {
        return "0".to_owned();
    }
    if ns < 999_500 {
        return format!("0.{:03}", (ns + 500) / 1_000);
    }
    let tenths = ns.saturating_add(50_000) / 100_000;
    format!("{}.{}", whole(tenths / 10), tenths % 10)
}

/// Nanoseconds, signed, as milliseconds.
#[must_use]
pub fn signed_ms(ns: i64) -> String {
    let sign = if ns < 0 { "−" } else { "" };
    format!("{sign}{}", ms(ns.unsigned_abs()))
}

/// Bytes as MiB with two decimals.
#[must_use]
pub fn mib(bytes: u64) -> String {
    let hundredths = (u128::from(bytes) * 100 + (1 << 19)) >> 20;
    let whole_part = u64::try_from(hundredths / 100).unwrap_or(u64::MAX);
    format!("{}.{:02}", whole(whole_part), hundredths % 100)
}

/// A size that a machine was given: GiB with one decimal from one on, else whole MiB.
#[must_use]
pub fn size(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10 + (1 << 29)) >> 30;
    if tenths < 10 {
        return format!("{} MiB", whole(bytes.saturating_add(1 << 19) >> 20));
    }
    let whole_part = u64::try_from(tenths / 10).unwrap_or(u64::MAX);
    format!("{}.{} GiB", whole(whole_part), tenths % 10)
}

/// Bytes, signed, as MiB.
#[must_use]
pub fn signed_mib(bytes: i64) -> String {
    let sign = if bytes < 0 { "−" } else { "" };
    format!("{sign}{}", mib(bytes.unsigned_abs()))
}

/// A share in per cent, never rounded up to all or down to nothing.
#[must_use]
pub fn percent(part: usize, all: usize) -> String {
    match (part, all) {
        (_, 0) => "–".to_owned(),
        (part, all) if part >= all => "100 %".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, all) => format!(
            "{:.1} %",
            (100.0 * crate::stats::count(part) / crate::stats::count(all)).clamp(0.1, 99.9)
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn html(text: &str) -> String {
        line(text).render().into_string()
    }

    #[test]
    fn nothing_of_a_hostile_text_is_markup_or_unseen() {
        assert_eq!(html("<script>\"&'"), "&lt;script&gt;&quot;&amp;'");
        assert_eq!(html("a\0\u{1b}[31m\u{7f}\r\n"), "a␀␛[31m␡␍\n");
        assert_eq!(html("\u{202e}gpj.exe"), "⟨U+202E⟩gpj.exe");
        assert_eq!(html("\u{fffe}\u{feff}"), "\u{fffd}⟨U+FEFF⟩");
    }

    #[test]
    fn what_is_too_long_is_cut_and_said() {
        let cut = short(&"ä".repeat(1_000)).to_string();
        assert_eq!(cut.chars().filter(|&c| c == 'ä').count(), SHORT);
        assert!(cut.ends_with(" … 1200 bytes more"), "{cut}");
    }

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(
            [whole(0), whole(999), whole(1_234_567)],
            ["0", "999", "1,234,567"]
        );
        assert_eq!(
            [ms(42_000), ms(999_999), ms(12_345_678), ms(1_633_000_000)],
            ["0.042", "1.0", "12.3", "1,633.0"]
        );
        assert_eq!(
            [mib(0), mib(1 << 20), mib(1_600_000)],
            ["0.00", "1.00", "1.53"]
        );
        assert_eq!(
            [
                percent(251, 251),
                percent(9_999, 10_000),
                percent(0, 5),
                percent(1, 3)
            ],
            ["100 %", "99.9 %", "0 %", "33.3 %"]
        );
        assert_eq!(slug("Files/Write — <b>"), "files-write-b");
    }

    proptest! {
        #[test]
        fn any_text_is_bounded_and_without_markup(text in "\\PC*|[\\x00-\\x7f]{0,3000}") {
            let html = html(&text);
            let markup = ['<', '>', '"', '\0', '\r', '\u{1b}'];
            prop_assert!(!html.contains(markup));
            prop_assert!(html.chars().count() <= LINE * 10);
            prop_assert!(slug(&text).chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        }
    }
}
