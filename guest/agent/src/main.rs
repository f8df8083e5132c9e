//! The guest agent: PID 1 of a microVM, or with `--standalone` an ordinary process for development.

use std::process::ExitCode;

use guest_agent::{init, log, standalone};

fn main() -> ExitCode {
    log::install();
    if init::is_pid_1() {
        // As PID 1 the arguments are what the kernel did not understand of its command line.
        let Err(error) = init::run();
        eprintln!("guest-agent: {error}");
        return ExitCode::FAILURE;
    }
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
