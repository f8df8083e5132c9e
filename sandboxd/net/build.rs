//! Compiles the eBPF programs in `bpf/` with clang into `OUT_DIR/netguard.o`.
//!
//! The compiler is `$CLANG`, else `clang`. Headers come from linux-libc-dev and libbpf-dev.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Shown by cargo as "error: …", which a panic's backtrace would bury.
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("OUT_DIR is not set")?;
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    // Debian keeps <asm/types.h> in a folder per architecture, which `-target bpf` does not search.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| "x86_64".to_owned());
    let output = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", "bpf/netguard.bpf.c", "-o"])
        .arg(out.join("netguard.o"))
        .output()
        .map_err(|error| {
            format!(
                "{clang} does not start ({error}); the eBPF programs need it: apt-get install clang libbpf-dev linux-libc-dev"
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if said.contains("file not found") {
        "; a header is missing: apt-get install libbpf-dev linux-libc-dev"
    } else {
        ""
    };
    Err(format!(
        "{clang} refused bpf/netguard.bpf.c{hint}: {}",
        said.replace('\n', " | ")
    ))
}
