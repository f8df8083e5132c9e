//! `import`: a report of what another tool measured.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{USAGE, refuse};
use crate::folder::{self, SampleWriter};
use crate::import::criterion;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tool whose results they are.
    #[command(subcommand)]
    tool: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    /// What `cargo bench` left in target/criterion.
    Criterion {
        /// Its folder.
        #[arg(default_value = "target/criterion")]
        folder: PathBuf,
        /// Folder for the report and its samples.
        #[arg(long)]
        out: PathBuf,
        /// The command that measured, for the report.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// What is taken to have measured.
const USUAL: [&str; 4] = ["cargo", "bench", "-p", "benches"];

pub fn run(args: Args) -> ExitCode {
    let From::Criterion {
        folder,
        out,
        mut command,
    } = args.tool;
    if command.is_empty() {
        command = USUAL.map(str::to_owned).to_vec();
    }
    let imported = match criterion::import(&folder, &command) {
        Ok(imported) => imported,
        Err(error) => return refuse(USAGE, &error),
    };
    let written = SampleWriter::create(&out).and_then(|mut writer| {
        for sample in &imported.samples {
            writer.add(sample)?;
        }
        writer.finish()?;
        folder::write(&out, &imported.report)
    });
    match written {
        Ok(()) => {
            println!("{}", out.join(folder::REPORT).display());
            ExitCode::SUCCESS
        }
        Err(error) => refuse(USAGE, &error),
    }
}
