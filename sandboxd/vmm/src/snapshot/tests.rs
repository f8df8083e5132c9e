use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::extents::{Extent, Source};
use super::*;
use crate::arch::x86_64::vcpu_state::VcpuState;

const MEMORY: u64 = 64 << 20;

/// A folder as a machine would have written it, with one page of memory and one disk layer.
fn write(dir: &Path) {
    let folder = Folder::create(dir, false).unwrap();
    let mut manifest = manifest::tests::sample();
    let mut state = SavedState {
        vcpus: vec![VcpuState::default()],
        ..SavedState::default()
    };
    state.extents.push(Extent {
        at: 4096,
        len: 4096,
        source: Source::Layer(0),
    });
    let memory = folder.file("memory.0").unwrap();
    memory.set_len(MEMORY).unwrap();
    memory.write_all_at(&[7; 4096], 4096).unwrap();
    manifest.memory[0].crc32 = Some(layers::checksum(&memory).unwrap());
    let bytes = state.encode().unwrap();
    manifest.state.bytes = bytes.len() as u64;
    folder.write("state", &bytes).unwrap();
    folder.write("disk-o.0", &[0; 4096]).unwrap();
    folder.write(manifest::NAME, &manifest.encode()).unwrap();
    folder.commit().unwrap();
}

/// A folder of a machine's disk alone.
fn write_disk(dir: &Path) {
    let folder = Folder::create(dir, false).unwrap();
    let mut manifest = manifest::tests::sample();
    manifest.kind = Kind::Disk;
    manifest.memory.clear();
    folder.write("disk-o.0", &[0; 4096]).unwrap();
    folder.write(manifest::NAME, &manifest.encode()).unwrap();
    folder.commit().unwrap();
}

fn sample() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("snap");
    write(&dir);
    for entry in std::fs::read_dir(&dir).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let writable = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(entry.unwrap().path(), writable).unwrap();
    }
    (parent, dir)
}

fn words(dir: &Path) -> String {
    Opened::open(dir).unwrap_err().to_string()
}

#[test]
fn a_whole_folder_is_opened() {
    let (_parent, dir) = sample();
    let opened = Opened::open(&dir).unwrap();
    opened.verify_memory().unwrap();
    assert_eq!(opened.memory.len(), 1);
    assert_eq!(opened.disk_layers(), [vec![dir.join("disk-o.0")]]);
}

#[test]
fn a_disk_is_found_with_and_without_memory() {
    let (parent, dir) = sample();
    let layers = |dir: &Path, disk| layers_of_disk(dir, disk).unwrap();
    assert_eq!(layers(&dir, "o"), [dir.join("disk-o.0")]);
    assert!(layers(&dir, "p").is_empty());
    let alone = parent.path().join("alone");
    write_disk(&alone);
    assert_eq!(layers(&alone, "o"), [alone.join("disk-o.0")]);
    assert!(words(&alone).contains("holds disks alone"));
    std::fs::remove_file(alone.join("disk-o.0")).unwrap();
    assert!(layers_of_disk(&alone, "o").is_err());
}

#[test]
fn each_kind_of_damage_has_its_sentence() {
    let (parent, dir) = sample();
    let missing = words(parent.path());
    assert!(missing.contains("holds no snapshot"), "{missing}");
    let cut = |name: &str, len: u64| {
        let file = OpenOptions::new().write(true).open(dir.join(name)).unwrap();
        let whole = file.metadata().unwrap().len();
        file.set_len(len).unwrap();
        let words = words(&dir);
        file.set_len(whole).unwrap();
        words
    };
    let memory = cut("memory.0", MEMORY - 4096);
    assert!(
        memory.contains("memory.0 is damaged or cut short"),
        "{memory}"
    );
    let disk = cut("disk-o.0", 1);
    assert!(disk.contains("disk-o.0 is damaged or cut short"), "{disk}");
    std::fs::remove_file(dir.join("disk-o.0")).unwrap();
    assert!(words(&dir).contains("disk-o.0"));
}

#[test]
fn damaged_memory_is_found_when_asked_for() {
    let (_parent, dir) = sample();
    let file = OpenOptions::new()
        .write(true)
        .open(dir.join("memory.0"))
        .unwrap();
    file.write_all_at(&[8], 5000).unwrap();
    let opened = Opened::open(&dir).unwrap();
    let error = opened.verify_memory().unwrap_err().to_string();
    assert!(error.contains("its checksum does not match"), "{error}");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let (_parent, dir) = sample();
    let file = OpenOptions::new()
        .write(true)
        .open(dir.join(manifest::NAME))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(words(&dir).contains("more than the"));
}

#[test]
fn another_processor_is_refused() {
    let (_parent, dir) = sample();
    let opened = Opened::open(&dir).unwrap();
    opened.check_cpu(&CpuIdentity::default()).unwrap();
    let here = CpuIdentity {
        vendor: "Other".into(),
        ..CpuIdentity::default()
    };
    let error = opened.check_cpu(&here).unwrap_err().to_string();
    assert!(error.contains("another processor"), "{error}");
}

#[test]
fn a_link_in_the_folder_is_not_followed() {
    let (_parent, dir) = sample();
    std::fs::rename(dir.join("memory.0"), dir.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.join("elsewhere"), dir.join("memory.0")).unwrap();
    assert!(words(&dir).contains("memory.0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_damage_to_the_small_files_is_refused(
        state: bool, at: prop::sample::Index, byte in 1u8.., cut: bool,
    ) {
        let (_parent, dir) = sample();
        let path = dir.join(if state { "state" } else { manifest::NAME });
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] ^= byte,
        }
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(Opened::open(&dir).is_err());
    }
}
