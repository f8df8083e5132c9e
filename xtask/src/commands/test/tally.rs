//! Counting tests, whatever ran them.

use std::fmt;
use std::time::Duration;

use crate::progress::seconds;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Passed.
    pub passed: usize,
    /// Failed, or could not be run.
    pub failed: usize,
    /// Not run, for a stated reason.
    pub skipped: usize,
}

impl Count {
    /// One test that passed or failed.
    #[must_use]
    pub fn one(good: bool) -> Self {
        Self {
            passed: usize::from(good),
            failed: usize::from(!good),
            skipped: 0,
        }
    }

    /// What `cargo test` printed: the sum of its `test result:` lines.
    #[must_use]
    pub fn of_cargo(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "))
        {
            for part in line.split([';', '.']) {
                let mut words = part.split_whitespace();
                let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
                    continue;
                };
                match words.next() {
                    Some("passed") => sum.passed += number,
                    Some("failed") => sum.failed += number,
                    Some("ignored") => sum.skipped += number,
                    _ => {}
                }
            }
        }
        sum
    }

    /// What a JUnit file holds, by its elements; text in it has its `<` escaped.
    #[must_use]
    pub fn of_junit(xml: &str) -> Self {
        let of = |element: &str| {
            let open = format!("<{element}");
            xml.match_indices(&open)
                .filter(|(at, _)| {
                    let next = xml[at + open.len()..].chars().next();
                    next.is_some_and(|c| c == '>' || c == '/' || c.is_whitespace())
                })
                .count()
        };
        let (failed, skipped) = (of("failure") + of("error"), of("skipped"));
        Self {
            passed: of("testcase").saturating_sub(failed + skipped),
            failed,
            skipped,
        }
    }
}

/// All sections so far. Displays as a table that ends with the sums.
#[derive(Debug, Default)]
pub struct Tally {
    sections: Vec<(String, Count, Duration)>,
}

impl Tally {
    /// Adds a section.
    pub fn add(&mut self, name: &str, count: Count, time: Duration) {
        self.sections.push((name.to_owned(), count, time));
    }

    /// Whether something ran and nothing failed.
    #[must_use]
    pub fn good(&self) -> bool {
        let sum = self.sum();
        sum.failed == 0 && sum.passed > 0
    }

    fn sum(&self) -> Count {
        self.sections
            .iter()
            .fold(Count::default(), |sum, (_, count, _)| Count {
                passed: sum.passed + count.passed,
                failed: sum.failed + count.failed,
                skipped: sum.skipped + count.skipped,
            })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count, time) in &self.sections {
            let mark = if count.failed == 0 {
                "ok    "
            } else {
                "FAILED"
            };
            writeln!(
                f,
                "{mark}  {name:32} {:>5} passed {:>3} failed {:>3} skipped  {:>12}",
                count.passed,
                count.failed,
                count.skipped,
                seconds(*time)
            )?;
        }
        let sum = self.sum();
        write!(f, "\n{} passed, {} failed", sum.passed, sum.failed)?;
        if sum.skipped > 0 {
            write!(f, ", {} skipped", sum.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_summed() {
        let output = "test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(
            Count::of_cargo(output),
            Count {
                passed: 4,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn junit_elements_are_counted() {
        let xml = "<testsuites><testsuite errors=\"1\"><testcase name=\"a\"/>\
            <testcase name=\"b\"><failure message=\"&lt;error\">x</failure></testcase>\
            <testcase name=\"c\"><error message=\"\"></error></testcase>\
            <testcase name=\"d\"><skipped type=\"x\"/></testcase></testsuite></testsuites>";
        assert_eq!(
            Count::of_junit(xml),
            Count {
                passed: 1,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn nothing_run_is_not_good() {
        assert!(!Tally::default().good());
    }

    #[test]
    fn the_last_line_stands_alone() {
        let mut tally = Tally::default();
        tally.add("fmt", Count::one(true), Duration::from_secs(1));
        tally.add("leaks", Count::one(false), Duration::from_secs(2));
        let text = tally.to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed"));
        assert!(!tally.good());
    }
}
