//! Prints the report as a table, or as JSON with `--json`; exit status 0 means usable.

use std::process::ExitCode;

fn main() -> ExitCode {
    let report = doctor::report();
    if std::env::args().any(|arg| arg == "--json") {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("the report cannot be written as JSON: {error}"),
        }
    } else {
        print!("{}", doctor::render(&report, doctor::Style::for_stdout()));
    }
    if report.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
