//! The suite's program.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    e2b_conformance::cli::main()
}
