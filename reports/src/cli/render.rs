//! `render`: pages of reports.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{USAGE, refuse};
use crate::render;

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders with a report.json, or report files; conformance reports stand side by side.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Folder for the pages.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args) -> ExitCode {
    match render::read(&args.dirs).and_then(|reports| render::write(&reports, &args.out)) {
        Ok(names) => {
            for name in names {
                println!("{}", args.out.join(name).display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => refuse(USAGE, &error),
    }
}
