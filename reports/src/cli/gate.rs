//! `gate`: is the new run really worse than the baseline?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{NOTHING, USAGE, WORSE, refuse};
use crate::folder::{self, FolderError};
use crate::gate::judge::{Measure, RESAMPLES, Rules};
use crate::gate::pair::{Run, pairs};
use crate::gate::{Line, gate};
use crate::render::text::short;

/// Arguments of `gate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the baseline's run: report.json and samples.jsonl.
    baseline: PathBuf,
    /// Folder of the new run.
    new: PathBuf,
    /// Chance that equal runs fail, over all series together.
    #[arg(long, default_value_t = Rules::default().alpha)]
    alpha: f64,
    /// How much worse matters: 0.05 is 5 %.
    #[arg(long, default_value_t = Rules::default().floor)]
    floor: f64,
    /// How many more failures matter: 0.01 is one request in a hundred.
    #[arg(long, default_value_t = Rules::default().failure_floor)]
    failure_floor: f64,
    /// Resamples of test and interval, at least 9,999.
    #[arg(long, default_value_t = RESAMPLES)]
    resamples: usize,
    /// Compare times of two runs on one machine as they are: their moods are then a difference too.
    #[arg(long)]
    across_runs: bool,
    /// Series about which nothing can be said do not fail the gate.
    #[arg(long)]
    allow_undecided: bool,
    /// Print the verdicts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let rules = match rules(args) {
        Ok(rules) => rules,
        Err(why) => return refuse(USAGE, &why),
    };
    let read = read(&args.baseline).and_then(|base| Ok((base, read(&args.new)?)));
    let (base, new) = match read {
        Ok(both) => both,
        Err(error) => return refuse(USAGE, &error),
    };
    let pairs = match pairs(&base, &new, args.across_runs) {
        Ok(pairs) => pairs,
        Err(error) => return refuse(NOTHING, &error),
    };
    let lines = gate(&pairs, &rules);
    if args.json {
        match serde_json::to_string_pretty(&lines) {
            Ok(text) => println!("{text}"),
            Err(error) => return refuse(USAGE, &error),
        }
    } else {
        lines.iter().for_each(|line| println!("{}", said(line)));
    }
    let worse = lines.iter().filter(|line| line.worse()).count();
    let undecided = lines.iter().filter(|line| line.undecided.is_some()).count();
    eprintln!(
        "{worse} of {} worse, {undecided} undecided; alpha {}, floor {}, {} resamples, seed {:#x}",
        lines.len(),
        rules.alpha,
        rules.floor,
        rules.resamples,
        rules.seed
    );
    match (worse, undecided) {
        (0, 0) => ExitCode::SUCCESS,
        (0, undecided) if args.allow_undecided && undecided < lines.len() => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(NOTHING),
        _ => ExitCode::from(WORSE),
    }
}

fn rules(args: &Args) -> Result<Rules, &'static str> {
    let share = |value: f64| value > 0.0 && value < 1.0;
    if !share(args.alpha) {
        return Err("--alpha is a chance between 0 and 1");
    }
    if !(args.floor >= 0.0 && args.failure_floor >= 0.0 && args.floor.is_finite()) {
        return Err("a floor is not negative");
    }
    if args.resamples < RESAMPLES {
        return Err("--resamples is at least 9999");
    }
    Ok(Rules {
        alpha: args.alpha,
        floor: args.floor,
        failure_floor: args.failure_floor,
        resamples: args.resamples,
        ..Rules::default()
    })
}

fn read(dir: &Path) -> Result<Run, FolderError> {
    Ok(Run {
        report: folder::read_as(dir)?,
        samples: folder::samples(dir)?,
    })
}

fn said(line: &Line) -> String {
    let head = format!("{} ({})", short(&line.title), line.what);
    if let Some(why) = &line.undecided {
        return format!("undecided  {head}: {why}");
    }
    let Some(found) = &line.found else {
        return format!("undecided  {head}");
    };
    let word = match (line.worse(), line.real, line.matters) {
        (true, ..) => "WORSE    ",
        (_, true, _) => "too small",
        (_, _, true) => "not real ",
        _ => "well     ",
    };
    let effect = match line.measure {
        Measure::Share => format!(
            "{:+.2} % failures ({:+.2} to {:+.2})",
            found.effect * 100.0,
            found.low * 100.0,
            found.high * 100.0
        ),
        Measure::Logarithm => format!("× {:.3} ({:.3}–{:.3})", found.effect, found.low, found.high),
    };
    format!(
        "{word}  {head}: {effect}, p {:.4}, {} and {} rounds",
        found.p_value, found.base_rounds, found.new_rounds
    )
}
