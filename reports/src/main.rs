//! `reports`: renders and judges what the tools of this house write.

fn main() -> std::process::ExitCode {
    reports::cli::main()
}
