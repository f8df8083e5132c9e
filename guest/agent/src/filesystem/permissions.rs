//! File modes as Go prints them, because SDK users compare the string.
//!
//! ```text
//! letters   one per set kind bit, in this order:   d L D p S u g c t
//!           "-" when none is set
//! then      rwxrwxrwx, "-" for a clear bit
//!
//! 0o100644 -rw-r--r--     0o040755 drwxr-xr-x     0o120777 Lrwxrwxrwx
//! 0o041777 dtrwxrwxrwx    0o104755 urwxr-xr-x     0o020666 Dcrw-rw-rw-
//! ```
//!
//! Source: Go `io/fs.FileMode.String`, which the agent this one replaces puts into `EntryInfo.permissions`.

/// The bits of `st_mode` that hold the kind of file (`S_IFMT`).
const KIND: u32 = 0o170_000;
/// The bits of `st_mode` that hold `rwxrwxrwx`.
const PERMISSION_BITS: u32 = 0o777;

/// What an inode is, read from `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A socket, a pipe or a device.
    Other,
}

/// The kind of file in a `st_mode` value.
pub fn kind(mode: u32) -> Kind {
    match mode & KIND {
        0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Symlink,
        _ => Kind::Other,
    }
}

/// The permission bits alone: `0o100644` gives `0o644`.
pub fn bits(mode: u32) -> u32 {
    mode & PERMISSION_BITS
}

/// The whole string, 10 characters or a few more for devices, sticky and set-id bits.
pub fn text(mode: u32) -> String {
    let kind = mode & KIND;
    let letters: [(bool, char); 9] = [
        (kind == 0o040_000, 'd'),
        (kind == 0o120_000, 'L'),
        (kind == 0o060_000 || kind == 0o020_000, 'D'),
        (kind == 0o010_000, 'p'),
        (kind == 0o140_000, 'S'),
        (mode & 0o4000 != 0, 'u'),
        (mode & 0o2000 != 0, 'g'),
        (kind == 0o020_000, 'c'),
        (mode & 0o1000 != 0, 't'),
    ];
    let mut text: String = letters
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, c)| *c)
        .collect();
    if text.is_empty() {
        text.push('-');
    }
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        let set = mode & (0o400 >> index) != 0;
        text.push(if set { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_modes_read_as_go_prints_them() {
        for (mode, expected) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "Lrwxrwxrwx"),
            (0o041_777, "dtrwxrwxrwx"),
            (0o104_755, "urwxr-xr-x"),
            (0o102_755, "grwxr-xr-x"),
            (0o020_666, "Dcrw-rw-rw-"),
            (0o060_660, "Drw-rw----"),
            (0o010_600, "prw-------"),
            (0o140_600, "Srw-------"),
            (0o100_000, "----------"),
        ] {
            assert_eq!(text(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind(0o100_644), Kind::File);
        assert_eq!(kind(0o040_755), Kind::Directory);
        assert_eq!(kind(0o120_777), Kind::Symlink);
        assert_eq!(kind(0o010_600), Kind::Other);
        assert_eq!(bits(0o104_755), 0o755);
    }

    proptest! {
        #[test]
        fn the_last_nine_characters_encode_the_permission_bits(mode in any::<u32>()) {
            let shown = text(mode);
            let tail: Vec<char> = shown.chars().rev().take(9).collect();
            let decoded = tail
                .iter()
                .enumerate()
                .filter(|(_, c)| **c != '-')
                .fold(0u32, |sum, (index, _)| sum | (1 << index));
            prop_assert_eq!(decoded, bits(mode));
            prop_assert!((10..=15).contains(&shown.len()));
        }
    }
}
