//! Writes log events to standard error, one line each: under PID 1 that is the serial console, whose log the host
//! keeps. A serial line is slow and costs the host an exit for each byte, so the agent is quiet by default.
//!
//! ```text
//!   <seconds since boot> WARN guest_agent::listen: a connection was not accepted error=Too many open files
//! ```
//!
//! The level is `warn`, or what the environment variable `AGENT_LOG` says (`error` to `trace`, `off`); the kernel hands
//! `AGENT_LOG=debug` on its command line over to PID 1 as such a variable. Only the agent's own events are written,
//! not those of its libraries.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Environment variable that sets the level.
pub const LEVEL_VARIABLE: &str = "AGENT_LOG";

/// Longest line in bytes; the rest is cut.
const MAX_LINE_LEN: usize = 1024;

/// Installs the logger for the whole process, and a panic hook that says what happened in one line.
pub fn install() {
    let level = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok());
    let logger = Logger {
        level: level.unwrap_or(LevelFilter::WARN),
    };
    // An error means that a logger is installed already.
    let _ = tracing::subscriber::set_global_default(logger);
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(std::io::stderr(), "guest-agent: {info}");
    }));
}

struct Logger {
    level: LevelFilter,
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("guest_agent")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        // Spans are not written; every span may have the same id.
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let line = format_event(event, boot.tv_sec, boot.tv_nsec / 1_000_000);
        // Nowhere to report a failure of the log itself.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn format_event(event: &Event<'_>, seconds: i64, millis: i64) -> String {
    let metadata = event.metadata();
    let mut fields = Fields {
        message: String::new(),
        others: String::new(),
    };
    event.record(&mut fields);
    let mut line = format!(
        "{seconds}.{millis:03} {} {}: {}{}",
        metadata.level(),
        metadata.target(),
        fields.message,
        fields.others
    );
    // One event is one line, whatever a field holds.
    line = line.replace(|c: char| c.is_control(), " ");
    let mut end = line.len().min(MAX_LINE_LEN - 1);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line.push('\n');
    line
}

struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.others, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Capture(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Capture {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _span: &Id, _values: &Record<'_>) {}
        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0
                .lock()
                .expect("unpoisoned")
                .push(format_event(event, 12, 5));
        }
        fn enter(&self, _span: &Id) {}
        fn exit(&self, _span: &Id) {}
    }

    #[test]
    fn an_event_is_one_bounded_line() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Capture(Arc::clone(&lines)), || {
            tracing::warn!(error = %"two\nlines", port = 7, "not accepted");
            tracing::warn!("{}", "é".repeat(2000));
        });
        let lines = lines.lock().expect("unpoisoned");
        assert_eq!(
            lines[0],
            "12.005 WARN guest_agent::log::tests: not accepted error=two lines port=7\n"
        );
        assert!(lines[1].len() <= MAX_LINE_LEN && lines[1].ends_with("é\n"));
    }
}
