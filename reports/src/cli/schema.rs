//! `schema`: the JSON Schemas.

use std::process::ExitCode;

use crate::model::schema;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// That of a line of samples.jsonl.
    #[arg(long)]
    sample: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let schema = if args.sample {
        schema::sample()
    } else {
        schema::report()
    };
    print!("{}", schema::text(&schema));
    ExitCode::SUCCESS
}
