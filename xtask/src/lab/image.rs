//! What a lab is made of, each an artefact of its own:
//!
//! ```text
//! lab/qemu/<hash>/       tree/  QEMU 10, SeaBIOS, busybox, kmod, xz, zstd and their libraries
//! lab/kernel/<hash>/     vmlinux · release · modules/<release>/   (modules unpacked)
//! lab/initramfs/<hash>/  initramfs.cpio: busybox, init.sh, the few modules the root needs
//! ```
//!
//! QEMU 10 comes from Debian's backports: with the release's 7.2 the lab kernel panics after
//! some tens of virtual machines. The kernel is Debian's own 6.12, not its `-cloud` build,
//! which lacks 9p.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cpio::Cpio;
use super::vmlinux::{self, Packing};
use crate::cache::{Ctx, Key, remove_tree};
use crate::debs::{self, Archive, Tree};
use crate::progress::Task;

const QEMU_PACKAGES: [&str; 5] = [
    "qemu-system-x86",
    "busybox-static",
    "kmod",
    "xz-utils",
    "zstd",
];
const KERNEL_PACKAGE: &str = "linux-image-6.12-amd64";
const INIT: &str = include_str!("init.sh");

/// Modules that the root file system and the network need, before modprobe can be had.
const EARLY_MODULES: [&str; 6] = [
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_net",
    "virtio_blk",
    "virtio_rng",
];

/// Module folders that a machine without such hardware never needs: left out to save time.
const UNUSED_MODULES: [&str; 10] = [
    "sound",
    "drivers/gpu",
    "drivers/media",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "drivers/staging",
    "drivers/usb",
    "drivers/iio",
    "drivers/infiniband",
    "drivers/hwmon",
];

/// The pieces that a lab is started from.
#[derive(Debug, Clone)]
pub struct Image {
    /// QEMU and tools.
    pub tree: Tree,
    /// Uncompressed kernel with a PVH entry.
    pub vmlinux: PathBuf,
    /// Folder that holds `<release>/modules.dep`.
    pub modules: PathBuf,
    /// The first initramfs archive; each start appends a small one of its own.
    pub initramfs: PathBuf,
}

impl Image {
    /// The pieces, made when missing.
    ///
    /// # Errors
    /// When packages can't be fetched, unpacked or don't hold what they should.
    pub fn get(ctx: &Ctx) -> Result<Self> {
        let qemu = qemu(ctx)?;
        let tree = Tree::new(&qemu.join("tree"));
        let kernel = kernel(ctx, &tree)?;
        let initramfs = initramfs(ctx, &tree, &kernel)?;
        Ok(Self {
            tree,
            vmlinux: kernel.join("vmlinux"),
            modules: kernel.join("modules"),
            initramfs: initramfs.join("initramfs.cpio"),
        })
    }
}

fn qemu(ctx: &Ctx) -> Result<PathBuf> {
    let key = Key::new("lab/qemu")
        .text("recipe", "1")
        .text("packages", &QEMU_PACKAGES.join(" "));
    ctx.cache.artifact(&key, |dir| {
        let task = ctx.progress.task("lab: QEMU");
        let log = ctx.cache.dir("logs")?.join("lab-qemu.log");
        let archive = Archive::open(ctx, &task)?;
        let version = archive.version("qemu-system-x86")?;
        let major: u32 = version
            .rsplit(':')
            .next()
            .and_then(|v| v.split('.').next())
            .and_then(|v| v.parse().ok())
            .with_context(|| format!("'{version}' is no version of QEMU"))?;
        ensure!(
            major >= 10,
            "Debian's backports have QEMU {version}; the lab needs 10 or newer"
        );
        let debs = archive.closure(&QEMU_PACKAGES, &task)?;
        debs::unpack(&debs, &dir.join("tree"), &log, &task)?;
        // Only read by people; 40 MB less to keep.
        for unused in [
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
            "usr/share/info",
        ] {
            remove_tree(&dir.join("tree").join(unused))?;
        }
        fs::write(dir.join("version"), &version)?;
        task.done(&format!("QEMU {version}"));
        Ok(())
    })
}

fn kernel(ctx: &Ctx, tree: &Tree) -> Result<PathBuf> {
    let key = Key::new("lab/kernel")
        .text("recipe", "1")
        .text("package", KERNEL_PACKAGE)
        .text("unused", &UNUSED_MODULES.join(" "));
    ctx.cache.artifact(&key, |dir| {
        let task = ctx.progress.task("lab: kernel");
        let log = ctx.cache.dir("logs")?.join("lab-kernel.log");
        fs::write(&log, "")?;
        let archive = Archive::open(ctx, &task)?;
        let package = archive.target(KERNEL_PACKAGE)?;
        let release = package
            .strip_prefix("linux-image-")
            .with_context(|| format!("{package} is no kernel package"))?
            .to_owned();
        let deb = archive.download(&package, &task)?;
        let raw = dir.join("raw");
        debs::unpack(std::slice::from_ref(&deb), &raw, &log, &task)?;
        fs::remove_file(&deb)?;

        task.message("unpacking the kernel");
        let image = fs::read(raw.join(format!("boot/vmlinuz-{release}")))?;
        extract(tree, &image, &dir.join("vmlinux"))?;

        let modules = dir.join("modules");
        fs::create_dir(&modules)?;
        let of_release = modules.join(&release);
        fs::rename(raw.join("lib/modules").join(&release), &of_release)?;
        fs::rename(
            raw.join(format!("boot/config-{release}")),
            dir.join("config"),
        )?;
        remove_tree(&raw)?;
        for unused in UNUSED_MODULES {
            remove_tree(&of_release.join("kernel").join(unused))?;
        }
        unpack_modules(tree, &of_release, &log, &task)?;

        // depmod wants lib/modules/<release> below its base.
        task.message("indexing modules");
        let base = tempfile::tempdir_in(dir)?;
        fs::create_dir(base.path().join("lib"))?;
        std::os::unix::fs::symlink(&modules, base.path().join("lib/modules"))?;
        let mut depmod = kmod(tree, "depmod");
        task.run(depmod.arg("-b").arg(base.path()).arg(&release), &log)?;
        fs::write(dir.join("release"), &release)?;
        task.done(&format!("Linux {release}"));
        Ok(())
    })
}

/// A command that runs the tree's kmod under the name of one of its tools.
fn kmod(tree: &Tree, tool: &str) -> Command {
    let words = kmod_words(tree, tool);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// The words that run the tree's kmod as `modprobe`, `depmod`, …
#[must_use]
pub fn kmod_words(tree: &Tree, tool: &str) -> Vec<String> {
    let mut words = tree.words("bin/kmod");
    words[4] = tool.to_owned();
    words
}

fn extract(tree: &Tree, image: &[u8], to: &Path) -> Result<()> {
    let (packing, payload) = vmlinux::payload(image)?;
    let mut command = match packing {
        Packing::Zstd => tree.command("usr/bin/zstd"),
        Packing::Xz => tree.command("usr/bin/xz"),
        Packing::Gzip => Command::new("gzip"),
    };
    let mut child = command
        .args(["-d", "-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(to)?)
        .spawn()
        .context("could not start the decompressor")?;
    child.stdin.take().context("no pipe")?.write_all(payload)?;
    let status = child.wait()?;
    ensure!(
        status.success(),
        "could not decompress the kernel ({packing:?}, {status})"
    );
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut fs::File::open(to)?, &mut magic)?;
    ensure!(
        &magic == b"\x7fELF",
        "what is packed in the kernel image is no ELF file"
    );
    Ok(())
}

/// Unpacks the modules: under emulation that would cost seconds at each start.
fn unpack_modules(tree: &Tree, dir: &Path, log: &Path, task: &Task) -> Result<()> {
    let mut packed = Vec::new();
    find(dir, ".ko.xz", &mut packed)?;
    ensure!(!packed.is_empty(), "the kernel package has no modules");
    task.message(format!("unpacking {} modules", packed.len()));
    for some in packed.chunks(400) {
        task.run(
            tree.command("usr/bin/xz")
                .args(["-d", "-q", "-T1"])
                .args(some),
            log,
        )?;
    }
    Ok(())
}

fn find(dir: &Path, suffix: &str, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, suffix, into)?;
        } else if path.to_string_lossy().ends_with(suffix) {
            into.push(path);
        }
    }
    into.sort();
    Ok(())
}

fn initramfs(ctx: &Ctx, tree: &Tree, kernel: &Path) -> Result<PathBuf> {
    let key = Key::new("lab/initramfs")
        .text("recipe", "1")
        .text("init", INIT)
        .text("modules", &EARLY_MODULES.join(" "))
        .text("kernel", &kernel.to_string_lossy());
    ctx.cache.artifact(&key, |dir| {
        let release = fs::read_to_string(kernel.join("release"))?;
        let modules = kernel.join("modules").join(&release);
        let index = fs::read_to_string(modules.join("modules.dep"))?;
        let mut cpio = Cpio::default();
        for folder in [
            "bin", "dev", "lab", "lower", "modules", "newroot", "proc", "sys", "tmp", "writable",
        ] {
            cpio.dir(folder);
        }
        cpio.device("dev/console", 5, 1).device("dev/null", 1, 3);
        cpio.file("bin/busybox", 0o755, &fs::read(tree.path("bin/busybox"))?);
        cpio.file("init", 0o755, INIT.as_bytes());
        for (n, path) in load_order(&index, &EARLY_MODULES)?.iter().enumerate() {
            let name = Path::new(path)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            cpio.file(
                &format!("modules/{n:02}-{name}"),
                0o644,
                &fs::read(modules.join(path))?,
            );
        }
        Ok(fs::write(dir.join("initramfs.cpio"), cpio.finish())?)
    })
}

/// The files of `wanted` and all they depend on, in the order to insert them.
///
/// `index` is depmod's `modules.dep`: `file: dependency…`, the last dependency first to load.
/// It lists no built-in modules, so these must not be wanted.
fn load_order(index: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let rows: Vec<(&str, Vec<&str>)> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let named = |file: &str| {
            let stem = file.rsplit('/').next().and_then(|f| f.split(".ko").next());
            stem.is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
        };
        let Some((file, needs)) = rows.iter().find(|(file, _)| named(file)) else {
            bail!("the lab kernel has no module {name}");
        };
        for file in needs.iter().rev().chain([file]) {
            if !order.iter().any(|have| have == file) {
                order.push((*file).to_owned());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "kernel/net/9p/9pnet.ko: kernel/fs/netfs/netfs.ko\n\
        kernel/fs/netfs/netfs.ko:\n\
        kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n\
        kernel/arch/x86/kvm/kvm-amd.ko:\n";

    #[test]
    fn dependencies_come_first_and_once() {
        let order = load_order(INDEX, &["9p", "9pnet", "kvm_amd"]).unwrap();
        let names: Vec<_> = order
            .iter()
            .map(|p| p.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["netfs.ko", "9pnet.ko", "9p.ko", "kvm-amd.ko"]);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = load_order(INDEX, &["tun"]).unwrap_err().to_string();
        assert_eq!(error, "the lab kernel has no module tun");
    }
}
