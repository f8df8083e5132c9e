//! The writable disk that every sandbox starts from: an empty ext4, made once.
//!
//! It holds `/upper` and `/work` for overlayfs. It has no journal, because a sandbox's disk is never
//! mounted again after a crash, and its inode tables count as written, so that the guest's kernel
//! does not spend its first minutes writing zeroes into each sandbox's copy-on-write file.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{SOURCE_DATE_EPOCH, fresh_log};
use crate::cache::{Ctx, Key};

/// Raised when the way of building changes what comes out.
const BUILDER: &str = "2";

/// Size as the guest sees it. The file is sparse.
const SIZE_GIB: u64 = 10;

/// The two folders of overlayfs.
const FOLDERS: [&str; 2] = ["upper", "work"];

const UUID: &str = "5a6d0b1e-0000-4000-8000-000000000002";

/// The folder with `overlay.ext4`.
///
/// # Errors
/// When `mke2fs` or `debugfs` is missing or fails.
pub fn overlay(ctx: &Ctx) -> Result<PathBuf> {
    let key = Key::new("overlay")
        .text("builder", BUILDER)
        .text("size", &SIZE_GIB.to_string());
    ctx.cache.artifact(&key, |out| build(ctx, out))
}

fn build(ctx: &Ctx, out: &Path) -> Result<()> {
    let task = ctx.progress.task("overlay disk");
    let log = fresh_log(ctx, "overlay")?;
    let disk = out.join("overlay.ext4");
    let file = File::create(&disk).with_context(|| format!("could not make {}", disk.display()))?;
    file.set_len(SIZE_GIB << 30)?;
    task.run(&mut mke2fs(&disk), &log)?;
    for name in FOLDERS {
        task.run(&mut mkdir(&disk, name), &log)?;
    }
    check(&disk)?;
    let kept = fs::metadata(&disk)?.blocks() * 512;
    task.done(&format!(
        "{SIZE_GIB} GiB, {} KiB of them written",
        kept >> 10
    ));
    Ok(())
}

/// Sbin is not on everyone's path, and the machine's own defaults must not leak in.
fn tool(name: &str) -> Command {
    let mut tool = Command::new(name);
    tool.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("E2FSPROGS_FAKE_TIME", SOURCE_DATE_EPOCH.to_string())
        .env("MKE2FS_CONFIG", "/dev/null");
    tool
}

/// Not with mke2fs's `-d`, which copies access and change times of the folder it reads.
fn mkdir(disk: &Path, name: &str) -> Command {
    let mut debugfs = tool("debugfs");
    debugfs
        .args(["-w", "-R", &format!("mkdir /{name}")])
        .arg(disk);
    debugfs
}

/// debugfs succeeds whatever becomes of its commands: looks whether the folders are there.
fn check(disk: &Path) -> Result<()> {
    let output = tool("debugfs")
        .args(["-R", "ls -p /"])
        .arg(disk)
        .output()
        .context("could not start debugfs: install e2fsprogs (`cargo xtask setup` does)")?;
    let listing = String::from_utf8_lossy(&output.stdout);
    for name in FOLDERS {
        ensure!(
            listing.contains(&format!("/040755/0/0/{name}/")),
            "debugfs did not make /{name} on the overlay disk; it lists:\n{listing}"
        );
    }
    Ok(())
}

fn mke2fs(disk: &Path) -> Command {
    // No `resize_inode`, no `64bit`: it never grows. No `metadata_csum`: checksums guard against
    // disks that lie, and cost the guest time. `uninit_bg` lets whole groups stay unwritten.
    let features = "^has_journal,^resize_inode,uninit_bg,extent,flex_bg,sparse_super2,dir_index,\
                    dir_nlink,huge_file,large_file,extra_isize,ext_attr,filetype";
    // Discard (on a file: punching holes) reads back as zeroes, so mke2fs need not write the inode
    // tables to have them zeroed: 124 KiB instead of 160 MiB.
    let extended = format!(
        "lazy_itable_init=0,discard,packed_meta_blocks=1,num_backup_sb=0,root_owner=0:0,\
         hash_seed={UUID}"
    );
    let mut mke2fs = tool("mke2fs");
    mke2fs
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0"])
        // One inode per 16 KiB: 655,360 files.
        .args(["-i", "16384", "-O", features, "-E", &extended, "-U", UUID])
        .arg(disk);
    mke2fs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_disk_is_small_sound_and_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let disk = dir.path().join(name);
            File::create(&disk).unwrap().set_len(64 << 20).unwrap();
            assert!(mke2fs(&disk).status().unwrap().success());
            assert!(check(&disk).is_err(), "folders before they are made");
            for name in FOLDERS {
                assert!(mkdir(&disk, name).status().unwrap().success());
            }
            check(&disk).unwrap();
            fs::read(&disk).unwrap()
        };
        let disk = make("one");
        // Times on disk have seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(disk == make("two"), "two runs differ");
        let written = disk
            .chunks(4096)
            .filter(|block| *block != [0; 4096])
            .count();
        assert!(written < 32, "{written} blocks are written");
        // Magic (le16 at 0x438), and no journal in the compatible features (bit 2 at 0x45c).
        assert_eq!(disk[0x438..0x43a], [0x53, 0xef]);
        assert_eq!(disk[0x45c] & 4, 0);
    }
}
