//! Wall-clock moments in microseconds, the precision in which the API promises `startedAt` and `endAt`.
//!
//! A moment is stored as an integer and written one way only (RFC 3339, UTC, six fraction digits), so a value that is
//! not changed is byte-for-byte the same in every reply, across restarts too.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

const MICROS_PER_SECOND: i64 = 1_000_000;

impl Moment {
    /// The current time.
    pub fn now() -> Self {
        Self(Timestamp::now().as_microsecond())
    }

    /// A moment from its stored integer.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The integer to store.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The moment `seconds` later; stays at the last representable moment instead of overflowing.
    pub const fn plus_seconds(self, seconds: u32) -> Self {
        Self(
            self.0
                .saturating_add((seconds as i64).saturating_mul(MICROS_PER_SECOND)),
        )
    }

    /// Time from `now` until this moment; zero when it has passed.
    pub fn after(self, now: Self) -> std::time::Duration {
        let micros = self.0.saturating_sub(now.0);
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Reads an RFC 3339 date and time with an offset; anything finer than a microsecond is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>()
            .ok()
            .map(|t| Self(t.as_microsecond()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{:.6}", Timestamp::MAX),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Moment;

    #[test]
    fn has_one_spelling() {
        insta::assert_snapshot!(Moment::from_micros(1_700_000_000_000_000), @"2023-11-14T22:13:20.000000Z");
        insta::assert_snapshot!(Moment::from_micros(1_700_000_000_123_456), @"2023-11-14T22:13:20.123456Z");
    }

    #[test]
    fn reads_other_offsets_and_precisions() {
        let expected = Some(Moment::from_micros(1_700_000_000_100_000));
        assert_eq!(Moment::parse("2023-11-14T22:13:20.1Z"), expected);
        assert_eq!(Moment::parse("2023-11-14T23:13:20.1000009+01:00"), expected);
        assert_eq!(Moment::parse("yesterday"), None);
    }

    proptest! {
        #[test]
        fn text_round_trips(micros in -62_000_000_000_000_000i64..253_000_000_000_000_000) {
            let moment = Moment::from_micros(micros);
            prop_assert_eq!(Moment::parse(&moment.to_string()), Some(moment));
        }

        #[test]
        fn later_is_never_earlier(micros in any::<i64>(), seconds in any::<u32>()) {
            prop_assert!(Moment::from_micros(micros).plus_seconds(seconds) >= Moment::from_micros(micros));
        }
    }
}
