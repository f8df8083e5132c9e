//! Writes initramfs archives: cpio in the "newc" form, which Linux unpacks at boot.
//!
//! ```text
//! entry:   "070701" + 13 fields of 8 hex digits │ name NUL │ pad to 4 │ data │ pad to 4
//! archive: entry* │ entry named "TRAILER!!!"
//! ```
//!
//! Several archives may follow each other in one file, each starting on a multiple of 4 bytes.
//! Source: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`.

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHAR: u32 = 0o020_000;

/// An archive in memory. Times are zero and inode numbers count up: equal input, equal bytes.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// Adds a folder; its parents must have been added before.
    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(name, DIR | 0o755, (0, 0), &[])
    }

    /// Adds a file with permission bits `mode` (0o000–0o777).
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> &mut Self {
        self.entry(name, FILE | mode, (0, 0), data)
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> &mut Self {
        self.entry(name, CHAR | 0o600, (major, minor), &[])
    }

    /// Ends the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> &mut Self {
        self.inode += 1;
        let size = u32::try_from(data.len()).expect("initramfs files are smaller than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let (major, minor) = device;
        // inode, mode, uid, gid, links, mtime, size, dev (2), rdev (2), name size, checksum
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn layout_of_an_entry() {
        let mut cpio = Cpio::default();
        cpio.file("init", 0o755, b"#!sh");
        let text = String::from_utf8(cpio.finish()).unwrap();
        let head = "070701\
            00000001000081ed0000000000000000000000010000000000000004\
            00000000000000000000000000000000\
            0000000500000000";
        assert_eq!(&text[..110], head);
        assert_eq!(&text[110..120], "init\0\0#!sh");
        assert!(text[120..].starts_with("070701"));
        assert!(text.contains("TRAILER!!!"));
    }

    #[test]
    fn every_part_starts_on_a_multiple_of_four() {
        for len in 0..9 {
            let mut cpio = Cpio::default();
            cpio.dir("d").file("d/f", 0o600, &vec![b'x'; len]);
            assert_eq!(cpio.finish().len() % 4, 0);
        }
    }

    /// Where the machine has a `cpio`, it must agree with ours.
    #[test]
    fn the_cpio_program_reads_it() {
        let mut cpio = Cpio::default();
        cpio.dir("d").file("d/f", 0o644, b"hello");
        let archive = cpio.finish();
        let Ok(mut child) = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return;
        };
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "d\nd/f\n");
    }
}
