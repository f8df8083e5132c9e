//! Commands that only show.

#![allow(missing_docs)]

use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_seen_enough_ends_the_program_quietly() {
    for command in ["list", "trace"] {
        let mut shown = Command::new(env!("CARGO_BIN_EXE_e2b-conformance"))
            .arg(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(shown.stdout.take());
        let mut told = String::new();
        let mut stderr = shown.stderr.take().unwrap();
        stderr.read_to_string(&mut told).unwrap();
        assert_eq!(told, "", "{command}");
        assert_eq!(shown.wait().unwrap().code(), Some(141), "{command}");
    }
}
