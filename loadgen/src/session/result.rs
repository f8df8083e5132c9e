//! The end of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use reports::folder::{self, FolderError};
use reports::model::Load;
use reports::model::load::{Comparison, Density, Leak};

use super::{Session, compose, summary};
use crate::cli::exit;
use crate::drive::Why;
use crate::drive::ledger::Cleaned;
use crate::record::recorder::is_full;
use crate::record::{Recorded, export};

/// Name of the file that lists what would not go.
const LEFT: &str = "left-behind.txt";

/// What only some commands find.
#[derive(Debug, Default)]
pub struct Extras {
    /// Pairs of series that took turns.
    pub comparisons: Vec<Comparison>,
    /// Memory by number of live sandboxes.
    pub density: Option<Density>,
    /// What was there before and after.
    pub leaks: Option<Vec<Leak>>,
    /// Sentences.
    pub notes: Vec<String>,
    /// Turns before measuring, per series.
    pub warm_up: u64,
    /// Versions that the target told.
    pub versions: BTreeMap<String, String>,
    /// A finding that makes the exit status bad.
    pub bad: bool,
}

impl Session {
    /// Kills what is left, writes the results, prints the table.
    pub async fn close(mut self, recorded: Recorded, mut extras: Extras) -> ExitCode {
        let cleaned = self.clean().await;
        extras.notes.extend(notes(&self, &recorded, &cleaned));
        let client = self.usage.since(&recorded.delay);
        let mut body = Load {
            scenario: self.settings.scenario.to_owned(),
            series: Vec::new(),
            comparisons: extras.comparisons,
            density: extras.density,
            leaks: extras.leaks,
            client: Some(client),
            notes: extras.notes,
        };
        for collector in &recorded.collectors {
            if collector.counts.planned > 0 {
                let mut series = collector.series(true);
                series.counts.warm_up = extras.warm_up;
                body.series.push(series);
            }
        }
        let failed: u64 = body
            .series
            .iter()
            .map(|series| series.counts.failed() + series.counts.dropped)
            .sum();
        // From here on the room is the report's.
        self.room = None;
        let report = compose::report(&self, body, extras.versions);
        let written = write(&self, &report, &recorded, &cleaned.left);
        print!("{}", summary::text(&report));
        let code = match (&written, self.stop.why()) {
            (Err(error), _) => {
                tell_unwritten(&self.settings.folder, error);
                exit::OUTPUT
            }
            (Ok(()), Some(Why::Output(_))) => exit::OUTPUT,
            (Ok(()), Some(Why::Interrupted)) => exit::INTERRUPTED,
            (Ok(()), Some(Why::Gone(_))) => exit::NO_TARGET,
            (Ok(()), None) if failed > 0 || extras.bad || !cleaned.left.is_empty() => exit::BAD,
            (Ok(()), None) => exit::GOOD,
        };
        if written.is_ok() {
            println!("\nresults: {}", self.settings.folder.display());
        }
        ExitCode::from(code)
    }

    /// Kills what each side has left.
    async fn clean(&self) -> Cleaned {
        let mut all = Cleaned::default();
        for (client, ledger) in self.clients.iter().zip(&self.ledgers) {
            let cleaned = ledger.clean(client).await;
            all.killed += cleaned.killed;
            all.left.extend(cleaned.left);
            all.unsure = all.unsure.or(cleaned.unsure);
        }
        all
    }
}

/// Sentences on how the run ended.
fn notes(session: &Session, recorded: &Recorded, cleaned: &Cleaned) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(why) = session.stop.why() {
        notes.push(format!("The run was cut short: {why}."));
    }
    if recorded.abandoned > 0 {
        notes.push(format!(
            "{} turns had no end when the run was cut; they are in no count.",
            recorded.abandoned
        ));
    }
    for (message, count) in &recorded.messages {
        notes.push(format!("{count} × {message}"));
    }
    if cleaned.killed > 0 {
        notes.push(format!(
            "{} sandboxes that were still there at the end were killed.",
            cleaned.killed
        ));
    }
    if !cleaned.left.is_empty() {
        notes.push(format!(
            "{} sandboxes or snapshots could not be removed ({LEFT}); `loadgen clean --run {}` tries again.",
            cleaned.left.len(),
            session.run
        ));
    }
    if let Some(error) = &cleaned.unsure {
        notes.push(format!(
            "Whether more is left is not known, the server did not list it: {error}. `loadgen clean --run {}` looks again.",
            session.run
        ));
    }
    notes
}

fn write(
    session: &Session,
    report: &reports::model::Report<Load>,
    recorded: &Recorded,
    left: &[String],
) -> Result<(), FolderError> {
    let dir = &session.settings.folder;
    folder::write(dir, report)?;
    if !left.is_empty() {
        folder::write_file(dir, LEFT, &(left.join("\n") + "\n"))?;
    }
    for (collector, series) in written_series(report, recorded) {
        if let Some(name) = &series.hgrm {
            folder::write_file(dir, name, &export::percentiles(collector))?;
        }
        if let Some(name) = &series.hlog {
            let text = export::hlog(collector, session.began_wall);
            let text = text.map_err(|source| FolderError::Io {
                path: dir.join(name),
                source,
            })?;
            folder::write_file(dir, name, &text)?;
        }
    }
    Ok(())
}

fn written_series<'a>(
    report: &'a reports::model::Report<Load>,
    recorded: &'a Recorded,
) -> impl Iterator<
    Item = (
        &'a crate::record::collector::Collector,
        &'a reports::model::load::Series,
    ),
> {
    let collectors = recorded.collectors.iter();
    collectors.filter_map(|collector| {
        let mut all = report.body.series.iter();
        Some((
            collector,
            all.find(|series| series.name == collector.heading.name)?,
        ))
    })
}

fn tell_unwritten(folder: &Path, error: &FolderError) {
    let why = if is_full(error) {
        "the disk is full"
    } else {
        "the folder cannot be written"
    };
    eprintln!(
        "loadgen: {why}: {error}\nThe table above is all that is kept beside what {} holds.",
        folder.display()
    );
}
