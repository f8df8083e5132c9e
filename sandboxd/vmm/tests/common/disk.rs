//! A writable disk as its layers say, put together by a reader of its own: the layout is that in the head of
//! `devices/block/overlay/header.rs` and `map.rs`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: u64 = 4096;
/// Bytes of a page of the map that hold states, four to a byte.
const STATES: u64 = PAGE - 4;

/// Copies what the file system in `base` uses of it to `to`. The base is a large file, and not every file system tells its holes.
pub fn used_of(base: &Path, to: &Path) {
    let copied = tool("e2image").arg("-ra").args([base, to]).output();
    let copied = copied.expect("e2image is installed");
    assert!(copied.status.success(), "{copied:?}");
}

/// Writes the disk of the snapshot in `dir` to `to`: its base at `base`, and the layers `disk-overlay.N` in their order.
pub fn flatten(base: &Path, dir: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .args([base, to])
        .status();
    assert!(copied.expect("cp runs").success());
    let disk = File::options().write(true).open(to).expect("the copy");
    let layers = (0..).map(|index| dir.join(format!("disk-overlay.{index}")));
    let layers: Vec<PathBuf> = layers.take_while(|path| path.exists()).collect();
    assert!(!layers.is_empty(), "the disk has layers");
    for layer in layers {
        apply(&File::open(&layer).expect("a layer"), &disk);
    }
}

fn apply(layer: &File, disk: &File) {
    let mut head = [0; 64];
    layer.read_exact_at(&mut head, 0).expect("a header");
    assert_eq!(&head[..8], b"SBXOVL\r\n");
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let cluster_size = u64::from(u32::from_le_bytes(
        head[12..16].try_into().expect("four bytes"),
    ));
    let (size, map, pages, data) = (word(16), word(24), word(32), word(40));
    let mut bytes = vec![0; usize::try_from(cluster_size).expect("a cluster")];
    let mut page = vec![0; usize::try_from(PAGE).expect("a page")];
    for index in 0..pages {
        layer
            .read_exact_at(&mut page, map + index * PAGE)
            .expect("a page of the map");
        for cluster in 0..STATES * 4 {
            let byte = page[usize::try_from(cluster / 4).expect("a small number")];
            let state = byte >> (cluster % 4 * 2) & 3;
            let at = (index * STATES * 4 + cluster) * cluster_size;
            match state {
                0 => continue,
                1 => bytes.fill(0),
                2 => layer
                    .read_exact_at(&mut bytes, data + at)
                    .expect("a cluster"),
                other => panic!("cluster {cluster} of page {index} has state {other}"),
            }
            let len = usize::try_from(cluster_size.min(size - at)).expect("a cluster");
            disk.write_all_at(&bytes[..len], at).expect("it is written");
        }
    }
}

/// Checks the ext4 file system in `image` without repairing anything.
pub fn check(image: &Path) {
    let output = tool("e2fsck")
        .args(["-f", "-n"])
        .arg(image)
        .output()
        .expect("e2fsck is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "e2fsck found errors: {said}");
}

/// A program of e2fsprogs, which lie where not everybody's path leads.
fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("env");
    command
        .arg(format!("PATH={path}:/usr/sbin:/sbin"))
        .arg(name);
    command
}
