//! The thread that writes down what happens.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use reports::folder::{FolderError, SampleWriter};
use reports::model::Sample;

use super::collector::{Collector, Heading, Turn};
use super::event::{Event, Job, Outcome, Reading, Trouble};
use super::histogram;
use crate::drive::stop::{Stop, Why};
use crate::live::Live;

/// Most different messages of failures that are kept.
const MAX_MESSAGES: usize = 20;
/// So many turns in a row that reach no server, for at least [`GONE_FOR`], mean that it is gone.
const GONE_TURNS: u32 = 10;
/// See [`GONE_TURNS`].
const GONE_FOR: Duration = Duration::from_secs(2);

/// The thread's handle.
#[derive(Debug)]
pub struct Recorder {
    sender: Sender<Event>,
    thread: JoinHandle<Recorded>,
}

/// What it knows at the end.
#[derive(Debug)]
pub struct Recorded {
    /// One per heading, in order.
    pub collectors: Vec<Collector>,
    /// What went wrong, in words, and how often.
    pub messages: BTreeMap<String, u64>,
    /// How late turns were sent.
    pub delay: Histogram<u64>,
    /// Why samples are missing from their file.
    pub write_error: Option<FolderError>,
    /// Turns that had no end when the run was cut short.
    pub abandoned: u64,
}

struct State {
    recorded: Recorded,
    writer: Option<SampleWriter>,
    live: Arc<Live>,
    stop: Stop,
    unreached: u32,
    unreached_since: Option<Duration>,
}

impl Recorder {
    /// Starts the thread. Without a folder no samples are written.
    ///
    /// # Errors
    /// When the file of samples cannot be made, or no thread.
    pub fn start(
        folder: Option<&Path>,
        headings: Vec<Heading>,
        live: Arc<Live>,
        stop: Stop,
    ) -> Result<Self, FolderError> {
        let writer = folder.map(SampleWriter::create).transpose()?;
        let (sender, receiver) = channel();
        let state = State {
            recorded: Recorded {
                collectors: headings.into_iter().map(Collector::new).collect(),
                messages: BTreeMap::new(),
                delay: histogram::empty(),
                write_error: None,
                abandoned: 0,
            },
            writer,
            live,
            stop,
            unreached: 0,
            unreached_since: None,
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let thread = thread.spawn(move || state.run(&receiver));
        let thread = thread.map_err(|source| FolderError::Io {
            path: folder.unwrap_or(Path::new("")).to_owned(),
            source,
        })?;
        Ok(Self { sender, thread })
    }

    /// Where events go.
    #[must_use]
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Waits for what is on its way; every sender must be gone by now.
    ///
    /// # Panics
    /// When the thread has panicked.
    #[must_use]
    pub fn finish(self) -> Recorded {
        drop(self.sender);
        match self.thread.join() {
            Ok(recorded) => recorded,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl State {
    fn run(mut self, events: &Receiver<Event>) -> Recorded {
        for event in events {
            self.take(event);
        }
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.finish()
        {
            self.recorded.write_error.get_or_insert(error);
        }
        self.recorded
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Done {
                job,
                sent,
                ended,
                in_flight,
                outcome,
            } => self.done(job, sent, ended, in_flight, outcome),
            Event::Dropped { job, series } => {
                self.live.dropped();
                for index in series {
                    if let Some(collector) = self.recorded.collectors.get_mut(index) {
                        collector.dropped(job.planned);
                    }
                    self.write(self.blank(index, job));
                }
            }
            Event::Abandoned { job, sent, series } => {
                self.recorded.abandoned += 1;
                for index in series {
                    self.write(self.blank(index, job).map(|blank| Sample {
                        sent_ns: Some(nanos(sent)),
                        failure: Some("abandoned".to_owned()),
                        ..blank
                    }));
                }
            }
        }
    }

    fn done(
        &mut self,
        job: Job,
        sent: Duration,
        ended: Duration,
        in_flight: u64,
        outcome: Outcome,
    ) {
        histogram::record(
            &mut self.recorded.delay,
            nanos(sent.saturating_sub(job.planned)),
        );
        self.watch(sent, outcome.trouble.as_ref());
        if let Some(trouble) = &outcome.trouble {
            let message = format!("{}: {}", trouble.during, trouble.message);
            let messages = &mut self.recorded.messages;
            let room = messages.len() < MAX_MESSAGES || messages.contains_key(&message);
            let key = if room {
                message
            } else {
                "other failures".to_owned()
            };
            *messages.entry(key).or_default() += 1;
        }
        self.live.turn(&outcome);
        for reading in &outcome.readings {
            self.reading(
                job,
                sent,
                ended,
                in_flight,
                reading,
                outcome.sandbox.as_deref(),
            );
        }
    }

    fn reading(
        &mut self,
        job: Job,
        sent: Duration,
        ended: Duration,
        in_flight: u64,
        reading: &Reading,
        sandbox: Option<&str>,
    ) {
        let turn = Turn {
            round: job.round,
            planned: job.planned,
            ended,
            in_flight,
            stages: &reading.stages,
        };
        if let Some(collector) = self.recorded.collectors.get_mut(reading.series) {
            match &reading.result {
                Ok(value) => collector.ok(turn, *value),
                Err(kind) => collector.failed(turn, kind),
            }
        }
        let blank = self
            .writer
            .is_some()
            .then(|| self.blank(reading.series, job));
        self.write(blank.flatten().map(|blank| Sample {
            sent_ns: Some(nanos(sent)),
            value: reading.result.as_ref().ok().copied(),
            failure: reading.result.as_ref().err().cloned(),
            sandbox: sandbox.map(str::to_owned),
            stages_ns: reading.stages.iter().cloned().collect(),
            ..blank
        }));
    }

    /// Tells when the server is gone: a run against nothing says nothing.
    fn watch(&mut self, sent: Duration, trouble: Option<&Trouble>) {
        let Some(trouble) = trouble.filter(|trouble| trouble.unreachable) else {
            self.unreached = 0;
            self.unreached_since = None;
            return;
        };
        self.unreached += 1;
        let since = *self.unreached_since.get_or_insert(sent);
        if self.unreached >= GONE_TURNS && sent.saturating_sub(since) >= GONE_FOR {
            self.stop.trip(Why::Gone(trouble.message.clone()));
        }
    }

    /// A sample of which nothing is known but its plan.
    fn blank(&self, series: usize, job: Job) -> Option<Sample> {
        let collector = self.recorded.collectors.get(series)?;
        Some(Sample {
            series: collector.heading.name.clone(),
            round: job.round,
            planned_ns: nanos(job.planned),
            sent_ns: None,
            value: None,
            failure: None,
            sandbox: None,
            stages_ns: BTreeMap::new(),
        })
    }

    fn write(&mut self, sample: Option<Sample>) {
        let (Some(writer), Some(sample)) = (&mut self.writer, sample) else {
            return;
        };
        if let Err(error) = writer.add(&sample) {
            // Nothing more is written: half a line and then others would be read as damage.
            if let Some(writer) = self.writer.take() {
                writer.give_up();
            }
            self.stop.trip(Why::Output(error.to_string()));
            self.recorded.write_error = Some(error);
        }
    }
}

/// As an integer of nanoseconds.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether an error says that no space is left.
#[must_use]
pub fn is_full(error: &FolderError) -> bool {
    matches!(error, FolderError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}
