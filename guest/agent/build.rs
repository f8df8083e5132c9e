//! Generates the messages and service traits of `proto/*.proto`. The protocol compiler is a library (protox), so that
//! a build needs no `protoc` and no system include files.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 2] = ["process.proto", "filesystem.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    let descriptors = out.join("envd.binpb");
    std::fs::write(&descriptors, compiler.encode_file_descriptor_set())?;
    connectrpc_build::Config::new()
        .files(&FILES)
        .descriptor_set(&descriptors)
        .gate_client_feature(true)
        .include_file("_connectrpc.rs")
        // They would name the descriptors above, and what a build writes itself always looks changed to the next.
        .emit_rerun_directives(false)
        .compile()?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
