//! The program.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    mock_apis::cli::main()
}
