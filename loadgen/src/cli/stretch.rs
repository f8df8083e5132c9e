//! One stretch of load with one kind of work, from warm-up to the written report.

use std::process::ExitCode;

use super::CliError;
use super::options::LoadArgs;
use crate::drive::Work;
use crate::pace::parse::Arrivals;
use crate::record::collector::Heading;
use crate::session::running::warm_up;
use crate::session::{Extras, Running, Session, Step};

/// What a stretch is recorded as.
pub struct Series {
    /// Series of the work.
    pub headings: Vec<Heading>,
    /// The one that the live view shows, by its place.
    pub headline: usize,
    /// What a reader of the report must know.
    pub note: Option<String>,
}

/// Drives `work`.
///
/// # Errors
/// When the run cannot begin.
pub async fn drive<W: Work>(
    mut session: Session,
    work: W,
    series: Series,
    load: &LoadArgs,
    arrivals: Arrivals,
) -> Result<ExitCode, CliError> {
    let extras = Extras {
        warm_up: warm_up(&work, load.bounds.warm_up, &session.stop).await,
        notes: series.note.into_iter().collect(),
        ..Extras::default()
    };
    let bounds = load.bounds_of(&arrivals);
    let running = Running::start(
        &mut session,
        work,
        series.headings,
        series.headline,
        bounds.number,
    )?;
    let step = Step {
        arrivals,
        bounds,
        max_in_flight: load.max_in_flight,
        side: 0,
        round: None,
    };
    running.drive(&step).await?;
    let recorded = running.finish();
    Ok(session.close(recorded, extras).await)
}
