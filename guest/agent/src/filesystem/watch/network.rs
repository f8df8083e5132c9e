//! Whether a directory is on a network file system, where inotify never sees what others change.

use std::path::Path;

use super::super::error::FilesystemError;

/// Types of file systems that others may change behind the kernel's back: NFS, SMB 1 to 3, AFS, Coda, NCP,
/// Ceph, 9P and FUSE (which E2B uses for mounted volumes and buckets). Source: `statfs(2)`.
const NETWORK: [i64; 11] = [
    0x6969,      // NFS_SUPER_MAGIC
    0x517B,      // SMB_SUPER_MAGIC
    0xFF53_4D42, // CIFS_SUPER_MAGIC
    0xFE53_4D42, // SMB2_SUPER_MAGIC
    0x5346_414F, // AFS_SUPER_MAGIC
    0x6B41_4653, // AFS_FS_MAGIC
    0x7375_7245, // CODA_SUPER_MAGIC
    0x564C,      // NCP_SUPER_MAGIC
    0x00C3_6400, // CEPH_SUPER_MAGIC
    0x0102_1997, // V9FS_MAGIC
    0x6573_5546, // FUSE_SUPER_MAGIC
];

/// See the module. Blocks, for as long as a dead server makes it.
///
/// # Errors
/// That of `statfs(2)`.
pub fn is_network_mount(path: &Path) -> Result<bool, FilesystemError> {
    let found = rustix::fs::statfs(path)
        .map_err(|error| FilesystemError::io("look at the mount of", path, error.into()))?;
    Ok(is_network(found.f_type))
}

fn is_network(kind: i64) -> bool {
    NETWORK.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_file_systems_are_local_and_remote_ones_are_not() {
        for local in [0xEF53, 0x0102_1994, 0x794C_7630, 0xE0F5_E1E2, 0x9123_683E] {
            assert!(!is_network(local), "{local:x}");
        }
        assert!(is_network(0x6969));
        assert!(is_network(0x6573_5546));
    }

    #[test]
    fn proc_is_local() {
        assert!(!is_network_mount(Path::new("/proc")).unwrap());
    }
}
