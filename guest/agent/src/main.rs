//! The guest agent: PID 1 of a microVM, or with `--standalone` an ordinary process for development.

use std::process::ExitCode;

use guest_agent::{log, standalone};

fn main() -> ExitCode {
    log::install();
    let options = match standalone::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprint!("{error}\n\n{}", standalone::USAGE);
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("The runtime does not start: {error}.");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(standalone::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("The services do not start: {error}.");
            ExitCode::FAILURE
        }
    }
}
