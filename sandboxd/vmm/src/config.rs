//! What a microVM is made of: the arguments of `boot`, and the file given to `microvm run --config`.
//!
//! ```json
//! {"vcpus":2,"memory_mib":512,"kernel":"/p/vmlinux","cmdline_extra":"",
//!  "disks":[{"id":"agent","path":"/p/agent.erofs","read_only":true},
//!           {"id":"overlay","path":"/p/overlay.ext4","read_only":false,"overlay":"/p/vm/overlay.cow"}],
//!  "vsock":{"guest_cid":3,"uds_path":"/p/vm/vsock.sock"},
//!  "net":{"tap":"sbx0","mac":"06:00:a9:fe:64:02"},
//!  "serial":{"path":"/p/vm/serial.log","max_bytes":1048576},"rng":true}
//! ```
//!
//! Unknown members are refused. Disks appear in the guest as `vda`, `vdb`, … in the order given. Paths are opened by the
//! `microvm` process itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most virtual CPUs of one machine.
pub const MAX_VCPUS: u8 = 32;
/// Least guest memory, in MiB: below this the kernel does not come up.
pub const MIN_MEMORY_MIB: u32 = 64;
/// Most guest memory, in MiB.
pub const MAX_MEMORY_MIB: u32 = 256 * 1024;
/// Most disks of one machine.
pub const MAX_DISKS: usize = 8;
/// Longest extra kernel command line, in bytes.
pub const MAX_CMDLINE_EXTRA: usize = 1024;
/// Bounds of the serial log, in bytes.
pub const SERIAL_BYTES: std::ops::RangeInclusive<u64> = 4096..=64 * 1024 * 1024;

/// One microVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// Virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest memory in MiB, [`MIN_MEMORY_MIB`] to [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// The guest kernel: an uncompressed 64-bit ELF `vmlinux`.
    pub kernel: PathBuf,
    /// Words put behind the built-in kernel command line; printable ASCII, at most [`MAX_CMDLINE_EXTRA`] bytes.
    #[serde(default)]
    pub cmdline_extra: String,
    /// Disks, in the order the guest sees them; at most [`MAX_DISKS`].
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// The socket to the guest, if any.
    #[serde(default)]
    pub vsock: Option<VsockConfig>,
    /// The network card, if any.
    #[serde(default)]
    pub net: Option<NetConfig>,
    /// Where serial output goes; dropped when absent.
    #[serde(default)]
    pub serial: Option<SerialConfig>,
    /// Whether the guest gets a virtio entropy source.
    #[serde(default)]
    pub rng: bool,
    /// Whether the guest gets a virtio balloon through which it reports free pages, so that they go back to the host.
    #[serde(default, skip_serializing_if = "is_false")]
    pub balloon: bool,
}

/// One virtio block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name in `stats` and the device's serial number; 1 to 20 letters, digits, `-` or `_`, unique in the machine.
    pub id: String,
    /// Raw image.
    pub path: PathBuf,
    /// Whether the guest may not write. A writable disk needs `overlay`: the image itself is never written.
    pub read_only: bool,
    /// File that takes what the guest writes; created when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
    /// Most bytes that the overlay may take on the host's disk; bounded by the size of the image when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_max_bytes: Option<u64>,
    /// Folder of a snapshot: the disk begins as the disk of the same name stood in it. A writable disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<PathBuf>,
}

/// The virtio socket device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// Address of the guest, 3 to 0xffff_fffe.
    pub guest_cid: u32,
    /// Unix socket on the host: connect, send `CONNECT <port>\n`, read `OK <host port>\n`, then raw bytes.
    pub uds_path: PathBuf,
}

/// The virtio network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of an existing TAP interface, 1 to 15 bytes.
    pub tap: String,
    /// The guest's address, six hexadecimal pairs with colons, unicast.
    pub mac: String,
}

/// The serial log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// File that holds the newest output.
    pub path: PathBuf,
    /// Size that the file never exceeds, in bytes, within [`SERIAL_BYTES`].
    pub max_bytes: u64,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Virtual CPUs out of range.
    #[error("vcpus is {0}, but a microVM has 1 to {MAX_VCPUS}")]
    Vcpus(u8),
    /// Memory out of range.
    #[error("memory_mib is {0}, but a microVM has {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB")]
    Memory(u32),
    /// A path is empty.
    #[error("{0} is an empty path")]
    EmptyPath(&'static str),
    /// The extra command line has other characters than printable ASCII, or is too long.
    #[error("cmdline_extra must be printable ASCII of at most {MAX_CMDLINE_EXTRA} bytes")]
    Cmdline,
    /// Too many disks.
    #[error("{0} disks are given, but a microVM has at most {MAX_DISKS}")]
    Disks(usize),
    /// A disk name is not usable.
    #[error("disk id {0:?} must be 1 to 20 letters, digits, '-' or '_', and unique")]
    DiskId(String),
    /// A writable disk has nowhere to put writes.
    #[error("disk {0:?} is writable, so it needs an overlay file")]
    OverlayMissing(String),
    /// A read-only disk cannot have an overlay.
    #[error(
        "disk {0:?} is read-only, so it cannot have an overlay file, its ceiling or a snapshot below it"
    )]
    OverlayUnused(String),
    /// The guest's socket address is reserved.
    #[error("guest_cid {0} is reserved; use 3 to 4294967294")]
    GuestCid(u32),
    /// The TAP name is not an interface name.
    #[error("tap {0:?} is not an interface name of 1 to 15 characters")]
    Tap(String),
    /// The MAC address is malformed or a multicast one.
    #[error("mac {0:?} is not a unicast address such as 06:00:a9:fe:64:02")]
    Mac(String),
    /// The serial log's bound is out of range.
    #[error("serial max_bytes is {0}, but must be 4096 to 67108864")]
    SerialBytes(u64),
}

impl MachineConfig {
    /// Checks every value that can be checked without touching the host.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            return Err(ConfigError::Vcpus(self.vcpus));
        }
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&self.memory_mib) {
            return Err(ConfigError::Memory(self.memory_mib));
        }
        present("kernel", &self.kernel)?;
        let extra = self.cmdline_extra.as_bytes();
        if extra.len() > MAX_CMDLINE_EXTRA || !extra.iter().all(|b| (b' '..=b'~').contains(b)) {
            return Err(ConfigError::Cmdline);
        }
        if self.disks.len() > MAX_DISKS {
            return Err(ConfigError::Disks(self.disks.len()));
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let repeated = self.disks[..index].iter().any(|other| other.id == disk.id);
            if repeated || !disk_id_is_good(&disk.id) {
                return Err(ConfigError::DiskId(disk.id.clone()));
            }
            disk.validate()?;
        }
        if let Some(vsock) = &self.vsock {
            if vsock.guest_cid < 3 || vsock.guest_cid == u32::MAX {
                return Err(ConfigError::GuestCid(vsock.guest_cid));
            }
            present("vsock uds_path", &vsock.uds_path)?;
        }
        if let Some(net) = &self.net {
            net.validate()?;
        }
        if let Some(serial) = &self.serial {
            present("serial path", &serial.path)?;
            if !SERIAL_BYTES.contains(&serial.max_bytes) {
                return Err(ConfigError::SerialBytes(serial.max_bytes));
            }
        }
        Ok(())
    }

    /// Guest memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl DiskConfig {
    /// Most bytes that the overlay may take on the host's disk.
    pub fn ceiling(&self) -> u64 {
        self.overlay_max_bytes.unwrap_or(u64::MAX)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        present("disk path", &self.path)?;
        match (&self.overlay, self.read_only) {
            (None, true) if self.overlay_max_bytes.is_some() || self.snapshot.is_some() => {
                Err(ConfigError::OverlayUnused(self.id.clone()))
            }
            (None, false) => Err(ConfigError::OverlayMissing(self.id.clone())),
            (Some(_), true) => Err(ConfigError::OverlayUnused(self.id.clone())),
            (Some(overlay), false) => present("disk overlay", overlay),
            (None, true) => Ok(()),
        }
    }
}

impl NetConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let good = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%';
        if !(1..=15).contains(&self.tap.len()) || !self.tap.bytes().all(good) {
            return Err(ConfigError::Tap(self.tap.clone()));
        }
        self.mac_bytes().map(|_| ())
    }

    /// The address as six bytes.
    ///
    /// # Errors
    /// When it is malformed or a multicast address.
    pub fn mac_bytes(&self) -> Result<[u8; 6], ConfigError> {
        let bad = || ConfigError::Mac(self.mac.clone());
        let mut bytes = [0; 6];
        let mut parts = self.mac.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(bad());
        }
        Ok(bytes)
    }
}

fn disk_id_is_good(id: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=20).contains(&id.len()) && id.bytes().all(good)
}

fn present(what: &'static str, path: &std::path::Path) -> Result<(), ConfigError> {
    if path.as_os_str().is_empty() {
        Err(ConfigError::EmptyPath(what))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const SAMPLE: &str = r#"{"vcpus":2,"memory_mib":512,"kernel":"/p/vmlinux","cmdline_extra":"",
        "disks":[{"id":"agent","path":"/p/agent.erofs","read_only":true},
                 {"id":"overlay","path":"/p/overlay.ext4","read_only":false,"overlay":"/p/vm/overlay.cow"}],
        "vsock":{"guest_cid":3,"uds_path":"/p/vm/vsock.sock"},
        "net":{"tap":"sbx0","mac":"06:00:a9:fe:64:02"},
        "serial":{"path":"/p/vm/serial.log","max_bytes":1048576},"rng":true}"#;

    fn sample() -> MachineConfig {
        serde_json::from_str(SAMPLE).unwrap()
    }

    #[test]
    fn the_sample_is_good_and_round_trips() {
        let config = sample();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<MachineConfig>(&text).unwrap(),
            config
        );
    }

    #[test]
    fn the_smallest_configuration_is_good() {
        let text = r#"{"vcpus":1,"memory_mib":64,"kernel":"k"}"#;
        serde_json::from_str::<MachineConfig>(text)
            .unwrap()
            .validate()
            .unwrap();
    }

    #[test]
    fn unknown_members_are_refused() {
        let text = r#"{"vcpus":1,"memory_mib":64,"kernel":"k","gpu":true}"#;
        let error = serde_json::from_str::<MachineConfig>(text).unwrap_err();
        assert!(error.to_string().contains("gpu"), "{error}");
    }

    #[test]
    fn each_bad_value_is_named() {
        let refused = |change: fn(&mut MachineConfig)| {
            let mut config = sample();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(refused(|c| c.vcpus = 0), ConfigError::Vcpus(0));
        assert_eq!(refused(|c| c.vcpus = 33), ConfigError::Vcpus(33));
        assert_eq!(refused(|c| c.memory_mib = 63), ConfigError::Memory(63));
        assert_eq!(
            refused(|c| c.kernel = PathBuf::new()),
            ConfigError::EmptyPath("kernel")
        );
        assert_eq!(
            refused(|c| c.cmdline_extra = "a\nb".into()),
            ConfigError::Cmdline
        );
        assert_eq!(
            refused(|c| c.cmdline_extra = "x".repeat(1025)),
            ConfigError::Cmdline
        );
        assert_eq!(
            refused(|c| c.disks = vec![c.disks[0].clone(); 9]),
            ConfigError::Disks(9)
        );
        assert_eq!(
            refused(|c| c.disks[1].id = "agent".into()),
            ConfigError::DiskId("agent".into())
        );
        assert_eq!(
            refused(|c| c.disks[0].id = "a b".into()),
            ConfigError::DiskId("a b".into())
        );
        assert_eq!(
            refused(|c| c.disks[1].overlay = None),
            ConfigError::OverlayMissing("overlay".into())
        );
        assert_eq!(
            refused(|c| c.disks[0].overlay_max_bytes = Some(1)),
            ConfigError::OverlayUnused("agent".into())
        );
        assert_eq!(
            refused(|c| c.disks[0].snapshot = Some("/s".into())),
            ConfigError::OverlayUnused("agent".into())
        );
        assert_eq!(
            refused(|c| c.disks[1].read_only = true),
            ConfigError::OverlayUnused("overlay".into())
        );
        assert_eq!(
            refused(|c| c.vsock.as_mut().unwrap().guest_cid = 2),
            ConfigError::GuestCid(2)
        );
        assert_eq!(
            refused(|c| c.net.as_mut().unwrap().tap = "a/b".into()),
            ConfigError::Tap("a/b".into())
        );
        assert_eq!(
            refused(|c| c.serial.as_mut().unwrap().max_bytes = 1),
            ConfigError::SerialBytes(1)
        );
        for mac in [
            "",
            "06:00:a9:fe:64",
            "06:00:a9:fe:64:02:03",
            "6:00:a9:fe:64:02",
            "+6:00:a9:fe:64:02",
            "01:00:a9:fe:64:02",
        ] {
            let net = NetConfig {
                tap: "t".into(),
                mac: mac.into(),
            };
            assert_eq!(net.validate(), Err(ConfigError::Mac(mac.into())));
        }
    }

    #[test]
    fn a_mac_is_read() {
        assert_eq!(
            sample().net.unwrap().mac_bytes(),
            Ok([6, 0, 0xa9, 0xfe, 0x64, 2])
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(mac in ".{0,24}", tap in ".{0,20}", extra in ".{0,40}") {
            let mut config = sample();
            config.net = Some(NetConfig { tap, mac });
            config.cmdline_extra = extra;
            let _ = config.validate();
        }
    }
}
