//! What was recorded so far, bounded in number and bytes.

use std::collections::BTreeMap;

use super::exchange::{Exchange, NotKept, Seen};
use super::{MAX_POINTERS, MAX_WRITTEN};

/// The recorded calls.
#[derive(Debug)]
pub struct Tape {
    exchanges: Vec<Exchange>,
    bytes: usize,
    pointers: usize,
    room: usize,
    calls: u64,
    over: u64,
    refused: BTreeMap<String, u64>,
}

impl Tape {
    /// An empty one with room for so many calls.
    pub fn new(room: usize) -> Self {
        Self {
            exchanges: Vec::new(),
            bytes: 0,
            pointers: 0,
            room,
            calls: 0,
            over: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Adds a call, when there is room.
    pub fn push(&mut self, seen: &Seen<'_>) {
        self.calls += 1;
        if self.exchanges.len() >= self.room {
            self.over += 1;
            return;
        }
        match Exchange::of(seen) {
            Ok(exchange) => {
                let bytes = self.bytes + exchange.size();
                let pointers = self.pointers + exchange.pointers();
                if bytes > MAX_WRITTEN || pointers > MAX_POINTERS {
                    self.over += 1;
                } else {
                    (self.bytes, self.pointers) = (bytes, pointers);
                    self.exchanges.push(exchange);
                }
            }
            Err(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: NotKept) {
        *self.refused.entry(why.to_string()).or_default() += 1;
    }

    /// Those that are kept, in the order of their replies.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// How many calls there were, kept or not.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// What is not kept, a line for each reason.
    pub fn missing(&self) -> Vec<String> {
        let refused = self.refused.iter();
        let mut lines: Vec<_> = refused
            .map(|(why, count)| format!("{count} calls are left out: {why}"))
            .collect();
        if self.over > 0 {
            lines.push(format!(
                "{} calls are left out: the recording was full",
                self.over
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_KEPT, convert, write};
    use super::*;
    use crate::scenario::yaml;

    #[test]
    fn a_full_tape_counts_what_it_does_not_keep() {
        let none = http::HeaderMap::new();
        let seen = |path, body| Seen {
            method: "GET",
            path,
            query: "",
            asked: &none,
            status: 200,
            headers: &none,
            body,
        };
        let mut few = Tape::new(2);
        for path in ["/1", "*", "/2", "/3"] {
            few.push(&seen(path, b"{}"));
        }
        assert_eq!((few.exchanges().len(), few.calls()), (2, 4));
        assert_eq!(
            few.missing(),
            [
                "1 calls are left out: a scenario has no such path",
                "1 calls are left out: the recording was full"
            ]
        );
        let body = format!("[\"{}\"]", "é".repeat(MAX_KEPT / 2 - 4));
        let mut large = Tape::new(1000);
        for _ in 0..100 {
            large.push(&seen("/x", body.as_bytes()));
        }
        let exchanges = large.exchanges();
        assert!((2..10).contains(&exchanges.len()), "{}", exchanges.len());
        let text = write::scenario(&convert::scenario("n", "api", exchanges), &[]);
        assert!(text.len() < yaml::MAX_BYTES, "{}", text.len());

        let body = format!("{{\"{}\": [{}1]}}", "k".repeat(900), "1,".repeat(1000));
        let bodies: Vec<_> = (0..100)
            .map(|n| body.replacen('1', &n.to_string(), 1))
            .collect();
        let mut long = Tape::new(1000);
        for body in &bodies {
            long.push(&seen("/x", body.as_bytes()));
        }
        let exchanges = long.exchanges();
        assert!((2..20).contains(&exchanges.len()), "{}", exchanges.len());
        let text = write::scenario(&convert::scenario("n", "api", exchanges), &[]);
        assert!(crate::scenario::from_text(&text).is_ok());
    }
}
