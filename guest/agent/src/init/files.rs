//! Files of the root file system that a sandbox's identity is in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes `text` the contents of the file at `path`.
///
/// A plain file is written in place: to remove it and make another costs a layered file system several steps on its upper
/// layer, and this is done while somebody waits for the sandbox. What else is there, such as a template's link to a file of a
/// service that does not run here, is removed.
///
/// # Errors
/// When the file can be neither written nor made.
pub fn replace(path: impl AsRef<Path>, text: &str) -> io::Result<()> {
    let path = path.as_ref();
    if let Some(mut file) = plain(path) {
        file.set_len(0)?;
        return file.write_all(text.as_bytes());
    }
    let _ = fs::remove_file(path);
    fs::write(path, text)
}

/// The file at `path`, when it is one and nothing else.
fn plain(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    // A pipe must not hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = options.write(true).custom_flags(flags).open(path).ok()?;
    file.metadata()
        .is_ok_and(|meta| meta.is_file())
        .then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_stay_and_everything_else_makes_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| fs::read_to_string(at(name)).expect(name);
        fs::write(at("plain"), "something longer").expect("written");
        fs::hard_link(at("plain"), at("witness")).expect("linked");
        replace(at("plain"), "new").expect("replaced");
        assert_eq!([read("plain"), read("witness")], ["new", "new"]);

        fs::write(at("target"), "theirs").expect("written");
        std::os::unix::fs::symlink(at("target"), at("link")).expect("linked");
        replace(at("link"), "ours").expect("replaced");
        assert_eq!([read("link"), read("target")], ["ours", "theirs"]);

        let pipe = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), pipe).expect("a pipe");
        replace(at("pipe"), "ours").expect("replaced");
        replace(at("missing"), "made").expect("made");
        assert_eq!([read("pipe"), read("missing")], ["ours", "made"]);
    }
}
