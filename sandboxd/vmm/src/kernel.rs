//! The guest kernel: its image in memory and its command line.

use std::fs::File;
use std::path::{Path, PathBuf};

use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::arch::x86_64::layout;
use crate::devices::virtio::GuestMemory;

/// The built-in part of the command line, word by word:
///
/// - `console=ttyS0 quiet loglevel=4`: the console is the serial port, which costs an exit per byte, so only warnings.
/// - `reboot=t panic=-1`: a reboot or panic ends in a triple fault at once, which KVM reports.
/// - `pci=off`: there is no bus to probe (ACPI still needs a kernel that has the code for it).
/// - `no_timer_check tsc=reliable`: there is no legacy timer to check, and the host keeps the time-stamp counter.
/// - `cpuidle_haltpoll.force=1 cpuidle.governor=menu`: an idle driver with a governor that stops the tick at once where a
///   long rest is due. Without one, each rest begins with one tick more (Linux, kernel/sched/idle.c). The driver's own
///   governor would poll before it halts, at the host's cost.
/// - `random.trust_cpu=on`: RDRAND seeds the generator before virtio-rng is there.
/// - `root=/dev/vda rootfstype=erofs ro init=/init`: the first disk carries the agent, which is process 1.
pub const CMDLINE: &str = "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 no_timer_check tsc=reliable pci=off \
                           cpuidle_haltpoll.force=1 cpuidle.governor=menu random.trust_cpu=on \
                           root=/dev/vda rootfstype=erofs ro init=/init";

/// Why the kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file cannot be opened.
    #[error("the kernel {path} cannot be opened: {error}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not a kernel that fits.
    #[error("the kernel {path} cannot be loaded as a 64-bit ELF image: {error}")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        error: linux_loader::loader::Error,
    },
    /// The kernel lies outside guest memory.
    #[error("the kernel {path} ends at {end:#x}, beyond the guest's memory")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// First address behind the kernel.
        end: u64,
    },
}

/// Loads the ELF image at `path` where it was linked and returns its 64-bit entry point.
///
/// # Errors
/// See [`KernelError`].
pub fn load(memory: &GuestMemory, path: &Path) -> Result<u64, KernelError> {
    let named = || path.to_owned();
    let mut file = File::open(path).map_err(|error| KernelError::Open {
        path: named(),
        error,
    })?;
    let high = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded = Elf::load(memory, None, &mut file, high).map_err(|error| KernelError::Load {
        path: named(),
        error,
    })?;
    let last = GuestAddress(loaded.kernel_end.saturating_sub(1));
    if !memory.address_in_range(last) || !memory.address_in_range(loaded.kernel_load) {
        return Err(KernelError::TooLarge {
            path: named(),
            end: loaded.kernel_end,
        });
    }
    Ok(loaded.kernel_load.0)
}

/// The whole command line.
pub fn command_line(extra: &str) -> String {
    match extra.trim() {
        "" => CMDLINE.to_owned(),
        extra => format!("{CMDLINE} {extra}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestMemoryMmap};

    use super::*;

    /// A 64-bit ELF file with one segment, `code`, loaded and entered at `address`.
    pub(crate) fn elf(address: u64, code: &[u8], memsz: u64) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [2u16, 62] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        file.extend_from_slice(&1u32.to_le_bytes());
        for word in [address, 64, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        for half in [1u32, 7] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        for word in [120, address, address, code.len() as u64, memsz, 4096] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(code);
        file
    }

    fn memory() -> GuestMemory {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap()
    }

    fn load_bytes(bytes: &[u8]) -> Result<u64, KernelError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let memory = memory();
        let entry = load(&memory, file.path())?;
        if !memory.address_in_range(GuestAddress(entry)) {
            panic!("entry {entry:#x} outside memory");
        }
        Ok(entry)
    }

    #[test]
    fn an_elf_image_is_put_where_it_was_linked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), elf(0x20_0000, b"code", 8)).unwrap();
        let memory = memory();
        assert_eq!(load(&memory, file.path()).unwrap(), 0x20_0000);
        let code: [u8; 4] = memory.read_obj(GuestAddress(0x20_0000)).unwrap();
        assert_eq!(&code, b"code");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(matches!(
            load_bytes(b"#!/bin/sh"),
            Err(KernelError::Load { .. })
        ));
        assert!(matches!(
            load_bytes(&elf(0x1000, b"x", 1)),
            Err(KernelError::Load { .. })
        ));
        assert!(matches!(
            load_bytes(&elf(4 << 20, b"x", 1)),
            Err(KernelError::Load { .. })
        ));
        let huge = load_bytes(&elf(0x20_0000, b"x", 4 << 20));
        assert!(matches!(huge, Err(KernelError::TooLarge { .. })));
        let missing = load(&memory(), Path::new("/nonexistent/vmlinux"));
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/vmlinux")
        );
    }

    #[test]
    fn extra_words_come_last() {
        assert_eq!(command_line(" "), CMDLINE);
        assert!(command_line("debug").ends_with("init=/init debug"));
    }

    proptest! {
        #[test]
        fn any_command_line_that_config_allows_fits(extra in "[ -~]{0,1024}") {
            prop_assert!(command_line(&extra).len() < layout::CMDLINE_MAX);
        }

        #[test]
        fn damaged_images_never_panic(at in 0usize..120, value in any::<u8>()) {
            let mut file = elf(0x20_0000, b"code", 8);
            file[at] = value;
            let _ = load_bytes(&file);
        }
    }
}
