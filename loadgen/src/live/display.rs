//! Shows the line.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Live;
use super::line::line;

/// How often a terminal is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How often a log gets a line.
const LOG: Duration = Duration::from_secs(10);
/// The rate shown is of the last so many draws: two seconds.
const WINDOW: usize = 10;

/// How many turns are under way, asked when a line is made.
pub type InFlight = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A thread that shows progress until it is dropped.
#[derive(Debug)]
pub struct Display {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts to show, on standard error. `total` is the number of turns, where it is known.
    #[must_use]
    pub fn start(live: Arc<Live>, in_flight: InFlight, total: Option<u64>, quiet: bool) -> Self {
        if quiet {
            return Self {
                end: None,
                thread: None,
            };
        }
        let (end, ended) = channel();
        let terminal = std::io::stderr().is_terminal();
        let bar = match (terminal, total) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(total)) => {
                ProgressBar::new(total).with_style(style("{bar:24} {pos}/{len} {wide_msg}"))
            }
            (true, None) => ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg}")),
        };
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut recent: VecDeque<(Instant, u64)> = VecDeque::new();
            let mut logged = began;
            loop {
                let last = !matches!(ended.recv_timeout(DRAW), Err(RecvTimeoutError::Timeout));
                let numbers = live.numbers();
                let now = Instant::now();
                recent.push_back((now, numbers.done));
                if recent.len() > WINDOW {
                    recent.pop_front();
                }
                let text = line(&numbers, began.elapsed(), rate(&recent), in_flight());
                bar.set_position(numbers.done + numbers.dropped);
                bar.set_message(text.clone());
                if !terminal && (last || logged.elapsed() >= LOG) {
                    logged = now;
                    eprintln!("{}", text.trim_start());
                }
                if last {
                    bar.finish_and_clear();
                    return;
                }
            }
        });
        Self {
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A display that panicked has nothing more to show.
            let _ = thread.join();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn rate(recent: &VecDeque<(Instant, u64)>) -> f64 {
    let (Some((from, before)), Some((to, now))) = (recent.front(), recent.back()) else {
        return 0.0;
    };
    let seconds = (*to - *from).as_secs_f64();
    if seconds > 0.0 {
        now.saturating_sub(*before) as f64 / seconds
    } else {
        0.0
    }
}
