//! The report as plain text.
//!
//! ```text
//!  ok    kvm-api         version 12
//!                        Stable since Linux 2.6.22
//!  FAIL  probe:syscall   arrived at the kernel entry in CPL 3
//!                        why: …
//!                        fix: …
//!
//! verdict sentence
//! ```
//!
//! Two columns and an indented text column that wraps at the terminal's width. Text from the host
//! is shown with control characters replaced, so a strange file name cannot steer the terminal.

use std::fmt::Write as _;

use crate::check::{Report, Status};

/// Narrowest text column; below it lines run over rather than break into single words.
const MIN_TEXT: usize = 24;

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether to colour the status words with ANSI escapes.
    pub colour: bool,
}

impl Style {
    /// The style that suits standard output: its real width and colours on a terminal that wants
    /// them (`NO_COLOR` unset), else 100 columns without colours.
    #[must_use]
    pub fn for_stdout() -> Self {
        use std::io::IsTerminal as _;
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self {
                width: 100,
                colour: false,
            };
        }
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns > 0)
            .unwrap_or(100);
        Self {
            width,
            colour: std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Draws the report.
#[must_use]
pub fn render(report: &Report, style: Style) -> String {
    let names = report
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let indent = 1 + 4 + 2 + names + 2;
    let room = style.width.saturating_sub(indent).max(MIN_TEXT);
    let mut out = String::new();
    for check in &report.checks {
        let word = paint(check.status, style.colour);
        let mut lines = wrap(&printable(&check.found), room);
        let why = printable(&check.reason);
        if check.status == Status::Ok {
            lines.extend(wrap(&why, room));
        } else {
            lines.extend(hanging("why: ", &why, room));
        }
        if let Some(remedy) = &check.remedy {
            lines.extend(hanging("fix: ", &printable(remedy), room));
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, " {word}  {:names$}  {first}", printable(&check.name));
        for line in lines {
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
    }
    out.push('\n');
    for line in wrap(&printable(&report.verdict), style.width.max(MIN_TEXT)) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn paint(status: Status, colour: bool) -> String {
    let (word, code) = match status {
        Status::Ok => ("ok  ", 32),
        Status::Warn => ("warn", 33),
        Status::Fail => ("FAIL", 31),
    };
    if colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Wraps with a label on the first line and the following lines under its text.
fn hanging(label: &str, text: &str, width: usize) -> Vec<String> {
    let inner = width.saturating_sub(label.len()).max(MIN_TEXT);
    wrap(text, inner)
        .into_iter()
        .enumerate()
        .map(|(n, line)| {
            if n == 0 {
                format!("{label}{line}")
            } else {
                format!("{:1$}{line}", "", label.len())
            }
        })
        .collect()
}

/// Breaks at spaces; a word longer than the width stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let wanted = line.chars().count() + usize::from(!line.is_empty()) + word.chars().count();
        if !line.is_empty() && wanted > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Check;
    use crate::mode::VirtualizationMode;
    use proptest::prelude::*;

    fn report() -> Report {
        Report::from_checks(
            VirtualizationMode::Paravirtual,
            vec![
                Check::ok(
                    "kvm-api",
                    "version 12",
                    "The API is stable since Linux 2.6.22",
                ),
                Check::warn(
                    "swap",
                    "4096 MiB",
                    "Guest memory may be written to disk",
                    "swapoff -a",
                ),
                Check::fail(
                    "probe:syscall",
                    "arrived at the kernel entry in CPL 3",
                    "A stock kernel cannot serve user space on this KVM",
                    "Use the lab host",
                ),
            ],
        )
    }

    #[test]
    fn wide_table() {
        insta::assert_snapshot!(render(
            &report(),
            Style {
                width: 100,
                colour: false
            }
        ));
    }

    #[test]
    fn narrow_table_wraps_under_its_column() {
        insta::assert_snapshot!(render(
            &report(),
            Style {
                width: 56,
                colour: false
            }
        ));
    }

    #[test]
    fn colour_touches_only_the_status_word() {
        let plain = render(
            &report(),
            Style {
                width: 80,
                colour: false,
            },
        );
        let coloured = render(
            &report(),
            Style {
                width: 80,
                colour: true,
            },
        );
        assert!(coloured.contains("\x1b[31mFAIL\x1b[0m"));
        let stripped = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(stripped, plain);
    }

    proptest! {
        #[test]
        fn no_control_character_of_the_host_reaches_the_terminal(text in any::<String>(), width in 0usize..300) {
            let report = Report::from_checks(
                VirtualizationMode::Unknown,
                vec![Check::warn("x", text.clone(), text.clone(), text)],
            );
            let drawn = render(&report, Style { width, colour: false });
            prop_assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()));
        }

        #[test]
        fn wrapping_loses_no_word(text in "[a-z ]{0,200}", width in 1usize..80) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let lines = wrap(&text, width);
            let again: Vec<&str> = lines.iter().flat_map(|line| line.split(' ')).collect();
            prop_assert_eq!(again, words);
            for line in &lines {
                prop_assert!(line.len() <= width || !line.contains(' '));
            }
        }
    }
}
