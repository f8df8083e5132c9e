//! How long work is shown: a live line per task on a terminal, plain lines elsewhere.
//!
//! ```text
//! terminal:      ⠹ kernel  compiling mm/slub.o                          [00:01:07]
//! elsewhere:     kernel: …
//!                kernel: done in 104.2 s
//! ```
//!
//! All of it goes to standard error, so that standard output stays a command's own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Lines of a failed command's output shown in its error.
const TAIL_LINES: usize = 30;

/// Where tasks are shown. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    /// `None` when standard error is no terminal.
    live: Option<MultiProgress>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Live when standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        Self {
            live: std::io::stderr().is_terminal().then(MultiProgress::new),
        }
    }

    /// Plain lines, also on a terminal: for work beside another program's live lines.
    #[must_use]
    pub fn plain() -> Self {
        Self { live: None }
    }

    /// Starts a task that shows a spinner and a message.
    #[must_use]
    pub fn task(&self, name: &str) -> Task {
        let bar = self.live.as_ref().map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            bar.set_style(style(
                "{spinner} {prefix:.bold}  {wide_msg} [{elapsed_precise}]",
            ));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{name}: …");
        }
        Task {
            name: name.to_owned(),
            bar,
            started: Instant::now(),
            ended: false,
        }
    }

    /// Prints a line without disturbing the live ones.
    pub fn line(&self, text: &str) {
        match &self.live {
            Some(live) => live.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

/// One task. Dropped without [`Task::done`], it shows as not finished.
#[derive(Debug)]
pub struct Task {
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
    ended: bool,
}

impl Task {
    /// What the task is at right now. Shown on a terminal only.
    pub fn message(&self, text: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.into());
        }
    }

    /// Time since the task started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the task well; `note` (may be empty) stands beside the time.
    pub fn done(mut self, note: &str) {
        let gap = if note.is_empty() { "" } else { " · " };
        self.end(&format!("done in {}{gap}{note}", seconds(self.elapsed())));
    }

    /// Runs `command` with its output in the file `log` and its last line as the message.
    ///
    /// # Errors
    /// When it can't be started or ends with a failure: the error carries the command, the
    /// exit status, the last lines of output and where the whole log is.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let shown = display(command);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut sink = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("could not open the log {}", log.display()))?;
        writeln!(sink, "+ {shown}")?;
        let (reader, writer) = std::io::pipe()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("could not start {program}: is it installed?"))?;
        // The command holds copies of the pipe's write end; give them up to see its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());

        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        // A line without an end may not grow without limit.
        while (&mut reader).take(64 * 1024).read_until(b'\n', &mut line)? > 0 {
            sink.write_all(&line)?;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if !text.is_empty() {
                self.message(text.chars().filter(|c| !c.is_control()).collect::<String>());
            }
            line.clear();
        }
        let status = child.wait()?;
        if !status.success() {
            bail!(
                "`{shown}` ended with {status}\n{}\n(the whole output: {})",
                tail(log),
                log.display()
            );
        }
        Ok(())
    }

    fn end(&mut self, text: &str) {
        self.ended = true;
        match &self.bar {
            Some(bar) => {
                bar.set_style(style("{prefix:.bold}  {wide_msg}"));
                bar.finish_with_message(text.to_owned());
            }
            None => eprintln!("{}: {text}", self.name),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            let text = format!("not finished after {}", seconds(self.elapsed()));
            self.end(&text);
        }
    }
}

/// The last lines of a log, indented, for an error message.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A duration as a person reads it: `3.4 s`, `2 min 05 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(100) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// A command as one would type it, cut where it gets long.
fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words
        .map(|w| w.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    match text.char_indices().nth(300) {
        Some((cut, _)) => format!("{} …", &text[..cut]),
        None => text,
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Task {
        Progress::plain().task("test")
    }

    #[test]
    fn output_is_logged() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        quiet()
            .run(
                Command::new("sh").args(["-c", "echo one; echo two >&2"]),
                &log,
            )
            .unwrap();
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.ends_with("one\ntwo\n"), "{text}");
    }

    #[test]
    fn a_failure_shows_the_command_its_status_and_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let error = quiet()
            .run(
                Command::new("sh").args(["-c", "echo disk full; exit 3"]),
                &log,
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("    disk full"), "{error}");
        assert!(error.contains("log)"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = quiet()
            .run(
                &mut Command::new("/no/such/program"),
                &dir.path().join("log"),
            )
            .unwrap_err()
            .to_string();
        assert_eq!(error, "could not start /no/such/program: is it installed?");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(3400)), "3.4 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
