//! The QEMU command line of a lab: pure, so that it can be read and tested.
//!
//! Every choice was measured; see `ARCHITECTURE.md`, "The lab host". In short: one CPU (with
//! two, an injected timer interrupt is now and then delivered twice), an EPYC with SVM and
//! nested paging, PVH boot, the machine's root over 9p.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::image::Image;

/// The longest serial number of a virtio-blk device (virtio 1.2, section 5.2.6).
const SERIAL_LIMIT: usize = 20;

const KERNEL_LINE: &str = "console=ttyS0 quiet reboot=t panic=-1 mitigations=off \
     no_timer_check tsc=reliable";

/// A file of the machine attached as a read-only disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Found in the lab as `/dev/disk/by-serial/<serial>`; 1–20 letters, digits, `-`, `_`.
    pub serial: String,
    /// The file, a raw image.
    pub path: PathBuf,
}

/// What differs between one lab and another.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    /// The pieces it starts from.
    pub image: &'a Image,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Folder shared read-write.
    pub share: &'a Path,
    /// Disks.
    pub drives: &'a [Drive],
    /// Where the console is written.
    pub console: &'a Path,
}

impl Machine<'_> {
    /// The words that start QEMU.
    ///
    /// # Errors
    /// When a drive's serial is too long or holds odd characters.
    pub fn words(&self) -> Result<Vec<String>> {
        let mut words = self.image.tree.words("usr/bin/qemu-system-x86_64");
        let mut add = |list: &[&str]| words.extend(list.iter().map(|&w| w.to_owned()));
        let data = self.image.tree.path("usr/share/qemu");
        let bios = self.image.tree.path("usr/share/seabios");
        add(&["-L", &text(&data), "-L", &text(&bios)]);
        add(&[
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        add(&[
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "EPYC-Milan,+svm,+npt",
        ]);
        add(&["-smp", "1", "-m", &format!("{}M", self.memory_mib)]);
        add(&[
            "-kernel",
            &text(&self.image.vmlinux),
            "-initrd",
            &text(self.initramfs),
        ]);
        add(&["-append", KERNEL_LINE]);
        add(&[
            "-chardev",
            &format!("file,id=console,path={}", escaped(self.console)),
        ]);
        add(&["-serial", "chardev:console", "-qmp", "stdio"]);
        add(&[
            "-fsdev",
            "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device",
            "virtio-9p-pci,fsdev=root,mount_tag=root",
            "-fsdev",
            &format!(
                "local,id=share,path={},security_model=none,multidevs=remap",
                escaped(self.share)
            ),
            "-device",
            "virtio-9p-pci,fsdev=share,mount_tag=share",
        ]);
        add(&[
            "-netdev",
            "user,id=net,ipv6=off",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]);
        add(&["-device", "virtio-rng-pci"]);
        for (n, drive) in self.drives.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            ensure!(
                (1..=SERIAL_LIMIT).contains(&drive.serial.len()) && drive.serial.chars().all(plain),
                "'{}' is no serial for a drive: 1 to 20 letters, digits, '-' or '_'",
                drive.serial
            );
            let path = escaped(&drive.path);
            add(&[
                "-drive",
                &format!("if=none,id=drive{n},format=raw,readonly=on,file={path}"),
                "-device",
                &format!("virtio-blk-pci,drive=drive{n},serial={}", drive.serial),
            ]);
        }
        Ok(words)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path inside of a QEMU option, where a comma is written twice.
fn escaped(path: &Path) -> String {
    text(path).replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debs::Tree;

    fn words(drives: &[Drive]) -> Result<Vec<String>> {
        let image = Image {
            tree: Tree::new(Path::new("/tree")),
            vmlinux: "/vmlinux".into(),
            modules: "/modules".into(),
            initramfs: "/initramfs".into(),
        };
        Machine {
            image: &image,
            initramfs: Path::new("/own"),
            memory_mib: 8192,
            share: Path::new("/a,b"),
            drives,
            console: Path::new("/console.log"),
        }
        .words()
    }

    #[test]
    fn as_it_was_measured() {
        insta::assert_snapshot!(words(&[]).unwrap()[6..].join("\n"));
    }

    #[test]
    fn drives_are_read_only_and_named() {
        let drive = Drive {
            serial: "base".into(),
            path: "/x/rootfs.erofs".into(),
        };
        let words = words(&[drive]).unwrap();
        assert!(
            words
                .iter()
                .any(|w| { w == "if=none,id=drive0,format=raw,readonly=on,file=/x/rootfs.erofs" })
        );
        assert_eq!(
            words.last().unwrap(),
            "virtio-blk-pci,drive=drive0,serial=base"
        );
    }

    #[test]
    fn a_serial_that_would_be_cut_is_refused() {
        let drive = Drive {
            serial: "x".repeat(21),
            path: "/x".into(),
        };
        assert!(words(&[drive]).is_err());
    }
}
