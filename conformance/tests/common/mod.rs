//! What tests against the bad server share: it as a target, and the shipped program against it.

#![allow(dead_code)]

use std::process::{Command, Output};

use bad_server::{BadServer, KEY};
use e2b_conformance::target::{Target, TargetFile};

/// The server as a target, its sandboxes at the same address.
pub fn target(server: &BadServer) -> Target {
    let file = TargetFile {
        url: Some(server.url()),
        api_key: Some(KEY.to_owned()),
        sandbox_url: Some(server.url()),
        ..TargetFile::default()
    };
    file.target().unwrap()
}

/// The shipped program with the server's key.
pub fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_e2b-conformance"))
        .args(arguments)
        .env("E2B_API_KEY", KEY)
        .output()
        .unwrap()
}

/// Its `run` against the server.
pub fn run(server: &BadServer, more: &[&str]) -> Output {
    let url = server.url();
    program(&[&["run", "--url", &url, "--sandbox-url", &url], more].concat())
}

/// What a program printed, on both streams.
pub fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}
