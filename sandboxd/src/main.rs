//! The daemon's program.

fn main() -> std::process::ExitCode {
    sandboxd::cli::main()
}
