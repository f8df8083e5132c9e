//! `manifest.json`: what a snapshot is and what it is made of.
//!
//! ```text
//!   {"magic":"sandboxd-microvm-snapshot","version":1, … ,"crc32":"0123abcd"}⏎
//!    └──────────────── checked by the last member ────┘
//! ```
//!
//! The order of refusals tells what is wrong: no magic, foreign; another version, older or newer; then the checksum, damaged or
//! cut short; then contents that make no sense.

use serde::{Deserialize, Serialize};

use super::MAX_MEMORY_LAYERS;
use crate::arch::x86_64::cpuid::CpuIdentity;
use crate::config::{ConfigError, MachineConfig};
use crate::devices::block::overlay::MAX_LAYERS;

/// Name of the file.
pub const NAME: &str = "manifest.json";
/// Version of the format that this program writes and reads.
pub const VERSION: u32 = 1;
const MAGIC: &str = "sandboxd-microvm-snapshot";
const ARCH: &str = "x86_64";
/// Longest opaque text, in bytes.
pub const MAX_LABEL: usize = 1024;
/// `,"crc32":"01234567"}` and the newline.
const SUFFIX: usize = 21;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is something else.
    #[error("it is not the manifest of a snapshot of ours")]
    Foreign,
    /// It was written by another version.
    #[error("it has format version {0}, but this program reads version {VERSION}")]
    Version(u32),
    /// The checksum does not match.
    #[error("it is damaged or cut short: the checksum does not match")]
    Damaged,
    /// It was written on another architecture.
    #[error("it was taken on {0}, but this program runs {ARCH} guests")]
    Arch(String),
    /// A member is missing, unknown or of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The machine is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A list or name makes no sense.
    #[error("{0} makes no sense")]
    Nonsense(&'static str),
}

/// Whether the memory of a snapshot stands alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All of memory.
    #[default]
    Full,
    /// What changed since another snapshot, whose layers are linked beside it.
    Diff,
    /// No memory: disks alone, for a machine that boots on them.
    Disk,
}

/// A file of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name in the folder.
    pub name: String,
    /// Length in bytes, holes included.
    pub bytes: u64,
    /// Checksum of its data, when one was taken (see [`super::layers::checksum`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<u32>,
}

/// Frozen layers of a writable disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLayers {
    /// Name of the disk.
    pub id: String,
    /// Layers, the oldest first.
    pub layers: Vec<FileEntry>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    magic: String,
    version: u32,
    arch: String,
    /// Version of the program that wrote it; for people.
    pub vmm: String,
    /// Name of this snapshot: 32 hexadecimal digits.
    pub id: String,
    /// Name of the snapshot that a diff continues.
    pub parent: Option<String>,
    /// Whether the memory stands alone.
    pub kind: Kind,
    /// The processor that the guest saw.
    pub cpu: CpuIdentity,
    /// What the caller calls the kernel.
    pub kernel: String,
    /// What the caller calls the image.
    pub image: String,
    /// The machine. Paths in it are those of the machine that was saved; a restore replaces what must not be shared.
    pub machine: MachineConfig,
    /// The state file; there is none where there is no memory.
    pub state: FileEntry,
    /// Memory layers, the oldest first.
    pub memory: Vec<FileEntry>,
    /// Layers of each writable disk.
    pub disks: Vec<DiskLayers>,
}

#[derive(Deserialize)]
struct Head {
    magic: String,
    version: u32,
}

impl Manifest {
    /// A manifest of this program and architecture; lists are still empty.
    pub fn new(kind: Kind, cpu: CpuIdentity, machine: MachineConfig) -> Self {
        Self {
            magic: MAGIC.into(),
            version: VERSION,
            arch: ARCH.into(),
            vmm: env!("CARGO_PKG_VERSION").into(),
            id: String::new(),
            parent: None,
            kind,
            cpu,
            kernel: String::new(),
            image: String::new(),
            machine,
            state: FileEntry {
                name: super::state::NAME.into(),
                bytes: 0,
                crc32: None,
            },
            memory: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// The text of the file.
    pub fn encode(&self) -> Vec<u8> {
        // The type holds nothing that JSON cannot.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.pop();
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!(",\"crc32\":\"{crc:08x}\"}}\n"));
        text.into_bytes()
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decode(text: &[u8]) -> Result<Self, ManifestError> {
        let head = head(text).ok_or(ManifestError::Foreign)?;
        if head.magic != MAGIC {
            return Err(ManifestError::Foreign);
        }
        if head.version != VERSION {
            return Err(ManifestError::Version(head.version));
        }
        let cut = text
            .len()
            .checked_sub(SUFFIX)
            .ok_or(ManifestError::Damaged)?;
        let (body, suffix) = text.split_at(cut);
        let want = format!(",\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(body));
        if suffix != want.as_bytes() {
            return Err(ManifestError::Damaged);
        }
        let manifest: Self = serde_json::from_slice(&[body, b"}"].concat())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.arch != ARCH {
            return Err(ManifestError::Arch(self.arch.clone()));
        }
        self.machine.validate()?;
        let nonsense = |bad: bool, what| match bad {
            true => Err(ManifestError::Nonsense(what)),
            false => Ok(()),
        };
        nonsense(!is_id(&self.id), "the id")?;
        nonsense(
            !self.parent.as_deref().is_none_or(is_id),
            "the id of the parent",
        )?;
        let label = |text: &str| text.len() <= MAX_LABEL;
        nonsense(!label(&self.kernel) || !label(&self.image), "a label")?;
        let alone = self.kind == Kind::Disk;
        nonsense(
            self.memory.is_empty() != alone || self.memory.len() > MAX_MEMORY_LAYERS,
            "the number of memory layers",
        )?;
        nonsense(
            self.disks.len() > self.machine.disks.len(),
            "the list of disks",
        )?;
        for disk in &self.disks {
            let known = self.machine.disks.iter().any(|known| known.id == disk.id);
            nonsense(!known, "the list of disks")?;
            nonsense(disk.layers.len() > MAX_LAYERS, "the number of disk layers")?;
        }
        let layers = self.disks.iter().flat_map(|disk| &disk.layers);
        let mut files = self.memory.iter().chain([&self.state]).chain(layers);
        nonsense(!files.all(|entry| is_name(&entry.name)), "a file name")
    }
}

/// The first two members, read without looking at the rest: what is cut short still says what it was.
fn head(text: &[u8]) -> Option<Head> {
    let end = text.iter().enumerate().filter(|(_, byte)| **byte == b',');
    let (second, _) = end.clone().nth(1)?;
    serde_json::from_slice(&[&text[..second], b"}"].concat()).ok()
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A plain name inside the folder.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn sample() -> Manifest {
        let machine = r#"{"vcpus":1,"memory_mib":64,"kernel":"/k",
            "disks":[{"id":"o","path":"/o","read_only":false,"overlay":"/o.cow"}]}"#;
        let machine = serde_json::from_str(machine).unwrap();
        let mut manifest = Manifest::new(Kind::Full, CpuIdentity::default(), machine);
        manifest.id = "0123456789abcdef0123456789abcdef".into();
        manifest.kernel = "sha256:k".into();
        let entry = |name: &str, bytes| FileEntry {
            name: name.into(),
            bytes,
            crc32: Some(7),
        };
        manifest.state = entry("state", 99);
        manifest.memory = vec![entry("memory.0", 64 << 20)];
        manifest.disks = vec![DiskLayers {
            id: "o".into(),
            layers: vec![entry("disk-o.0", 4096)],
        }];
        manifest
    }

    fn refused(manifest: &Manifest) -> String {
        Manifest::decode(&manifest.encode())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn it_comes_back_and_is_plain_json() {
        let text = sample().encode();
        assert_eq!(Manifest::decode(&text).unwrap(), sample());
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["magic"], MAGIC);
    }

    #[test]
    fn each_kind_of_wrong_has_its_sentence() {
        let text = sample().encode();
        let words = |text: &[u8]| Manifest::decode(text).unwrap_err().to_string();
        for foreign in [
            &b""[..],
            b"{}",
            b"garbage, and, more",
            b"{\"magic\":\"x\",\"version\":1,\"a\":1}",
        ] {
            assert!(words(foreign).contains("not the manifest"), "{foreign:?}");
        }
        let newer = String::from_utf8(text.clone()).unwrap();
        let newer = newer.replace("\"version\":1", "\"version\":2");
        assert!(words(newer.as_bytes()).contains("version 2"));
        assert!(words(&text[..text.len() - 1]).contains("cut short"));
        assert!(words(&text[..100]).contains("cut short"));
        let mut other = sample();
        other.arch = "riscv64".into();
        assert!(refused(&other).contains("taken on riscv64"));
    }

    #[test]
    fn impossible_contents_are_refused() {
        let change = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            refused(&manifest)
        };
        assert!(change(|m| m.id = "..".into()).contains("the id"));
        assert!(change(|m| m.parent = Some("x".into())).contains("parent"));
        assert!(change(|m| m.memory.clear()).contains("memory layers"));
        assert!(change(|m| m.kind = Kind::Disk).contains("memory layers"));
        assert!(change(|m| m.memory[0].name = "../memory".into()).contains("file name"));
        assert!(change(|m| m.state.name = ".".into()).contains("file name"));
        assert!(change(|m| m.disks[0].id = "p".into()).contains("list of disks"));
        assert!(change(|m| m.kernel = "x".repeat(1025)).contains("label"));
        assert!(change(|m| m.machine.vcpus = 0).contains("vcpus"));
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(at in 0usize..900, bit in 0u8..8) {
            let mut text = sample().encode();
            let at = at % text.len();
            text[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&text).is_err());
        }

        #[test]
        fn any_cut_is_noticed(len in 0usize..900) {
            let text = sample().encode();
            let len = len % text.len();
            prop_assert!(Manifest::decode(&text[..len]).is_err());
        }

        #[test]
        fn any_bytes_are_refused(text in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Manifest::decode(&text).is_err());
        }
    }
}
