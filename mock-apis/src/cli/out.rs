//! What is printed. A reader that has seen enough (`… | head`) is no failure: the command goes on quietly, and its exit code is what it would
//! have been, for whoever asks for that and not for the text.

use std::io::{ErrorKind, Write};

use super::CliError;

/// Prints `text` as it stands.
pub fn print(text: &str) -> Result<(), CliError> {
    to(&mut std::io::stdout().lock(), text)
}

fn to(out: &mut impl Write, text: &str) -> Result<(), CliError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::Io("standard output".into(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        assert!(to(&mut Refuses(ErrorKind::BrokenPipe), "x").is_ok());
        let full = to(&mut Refuses(ErrorKind::StorageFull), "x").unwrap_err();
        assert!(full.to_string().starts_with("standard output: "), "{full}");
    }
}
