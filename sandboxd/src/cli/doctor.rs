//! `sandboxd doctor`: the report of crate `doctor` on standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where the daemon would keep its state
    #[arg(long, env = "SANDBOXD_STATE_DIR", value_name = "DIR", default_value = super::settings::STATE_DIR)]
    state_dir: PathBuf,
}

/// Prints the report; the exit status says whether the host is usable.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let options = doctor::Options {
        state_dir: args.state_dir.clone(),
    };
    let report = doctor::report_with(&options);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", doctor::render(&report, doctor::Style::for_stdout()));
    }
    Ok(if report.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
