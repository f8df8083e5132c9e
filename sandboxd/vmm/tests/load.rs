//! Snapshots of a guest that is busy writing: disk and memory are of one instant, and what a chain of diffs says is what a full
//! copy says.
//!
//! ```text
//!   guest: writer ──► file with its checksum in its name, renamed into place; old ones removed; synced now and then
//!   host:  … let it run a while ─► pause ─► diff snapshot, full snapshot ─► compared page by page
//!            ─► clone of the diff ─► every file against its name, from memory and again from the disk ─► writer stopped, synced
//!            ─► its disk put together from its layers ─► e2fsck ─► go on …
//! ```
//!
//! `SANDBOXD_LOAD_ROUNDS` says how many rounds (8 when it is not set). What else it needs, see `guest.rs`.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use vmm::arch::x86_64::layout;
use vmm::control::{Op, Restored};
use vmm::memory::{self, place};
use vmm::snapshot::{Kind, Opened, layers};

use self::common::{Artifacts, Guest, disk, run, running, write};

const ROUNDS: u32 = 8;
/// Pages of the host that are compared at once.
const CHUNK: u64 = 1 << 20;

/// Writes without end. A file carries the checksum of its contents in its name from the moment that it is there.
const WRITER: &str = r#"mkdir -p /root/load; cd /root/load
cat > /root/writer <<'end'
cd /root/load; i=0
while :; do
    i=$((i + 1)); name=$((i % 24))
    head -c $((4096 + i * 7919 % 300000)) /dev/urandom > new
    sum=$(sha256sum new); sum=${sum%% *}
    rm -f $name.*; mv new $name.$sum
    [ $((i % 5)) = 0 ] && sync
done
end
setsid sh /root/writer < /dev/null > /dev/null 2>&1 & echo started"#;

/// Ends the writer, and lets what it had started come to its end. The brackets keep the shell that looks from finding itself:
/// names in /proc come in the order of text, and it might be the first.
const STOP: &str = r"for p in /proc/[0-9]*; do grep -q '/root/[w]riter' $p/cmdline && kill -9 ${p#/proc/}; done 2> /dev/null
sleep 0.3";

/// Checks every file against its name; prints how many are there, and what is wrong.
const VERIFY: &str = r#"cd /root/load; n=0
for file in [0-9]*.*; do
    sum=$(sha256sum $file); n=$((n + 1))
    [ "${sum%% *}" = "${file#*.}" ] || echo "$file has ${sum%% *}"
done; echo "checked $n""#;

#[test]
fn snapshots_under_a_write_load_are_whole() {
    let Some(artifacts) = Artifacts::find() else {
        return;
    };
    let rounds = std::env::var("SANDBOXD_LOAD_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (guest, mut control) = running(&artifacts);
    let base = path("base");
    disk::used_of(&artifacts.overlay_base, &base);
    assert_eq!(run(&guest, WRITER), "started\n");
    let mut files = 0;
    for round in 1..=rounds {
        let began = Instant::now();
        // Another moment of the writer's round each time.
        let pause = 150 + u64::from(round) * 37 % 200;
        std::thread::sleep(Duration::from_millis(pause));
        control.order(Op::Pause).expect("it stands still");
        let (diff, full) = (path(&format!("diff-{round}")), path("full"));
        write(&mut control, &full, Kind::Full, false);
        let written = write(&mut control, &diff, Kind::Diff, true);
        let taken = began.elapsed().as_millis();
        compare(&diff, &full);
        let compared = began.elapsed().as_millis();
        files = verify(&base, &diff);
        println!(
            "round {round} of {rounds}: {} memory layers, {files} files; taken after {taken} ms, compared {compared}, verified {}",
            written.memory_layers,
            began.elapsed().as_millis()
        );
        std::fs::remove_dir_all(&full).expect("it goes");
        // A chain needs no folder but its last.
        if round > 1 {
            std::fs::remove_dir_all(path(&format!("diff-{}", round - 1))).expect("it goes");
        }
        control.order(Op::Resume).expect("it goes on");
    }
    assert!(files > 0, "the writer wrote nothing");
}

/// Compares what two snapshots say of memory.
fn compare(one: &Path, other: &Path) {
    let held: Vec<_> = [one, other]
        .iter()
        .map(|dir| {
            let opened = Opened::open(dir).expect("a snapshot");
            opened.verify_memory().expect("its checksums are right");
            let size = opened.manifest.machine.memory_bytes();
            let memory = memory::create(&layout::memory_ranges(size)).expect("memory");
            layers::lay(&memory, &opened.state.extents, &opened.memory).expect("it is laid");
            (memory, size)
        })
        .collect();
    let (first, size) = &held[0];
    assert_eq!(*size, held[1].1);
    let mut at = 0;
    while at < *size {
        let len = CHUNK.min(size - at);
        let mut pages = Vec::new();
        place::each_page(first, at, len, |at, page| pages.push((at, page.to_owned())))
            .expect("memory");
        let mut pages = pages.into_iter();
        place::each_page(&held[1].0, at, len, |at, page| {
            let same = pages.next().is_some_and(|(_, other)| other == page);
            assert!(
                same,
                "the page at {at:#x} differs between a chain and a full copy"
            );
        })
        .expect("memory");
        at += len;
    }
}

/// Continues the snapshot in `dir` elsewhere; returns how many files were found to be whole.
fn verify(base: &Path, dir: &Path) -> usize {
    let clone = Guest::start();
    let mut control = clone.client();
    let restore = Op::Restore(Box::new(clone.restore(dir)));
    control.call::<Restored>(restore).expect("it is restored");
    run(&clone, STOP);
    let checked = |said: &str| -> usize {
        let count = said
            .trim()
            .strip_prefix("checked ")
            .and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("a file is not what its name says: {said}"))
    };
    let cached = checked(&run(&clone, VERIFY));
    let on_disk = format!("sync; echo 3 > /proc/sys/vm/drop_caches; {VERIFY}");
    assert_eq!(checked(&run(&clone, &on_disk)), cached);
    control.order(Op::Pause).expect("it stands still");
    let end = clone.path("end");
    write(&mut control, &end, Kind::Diff, false);
    let image = clone.path("image");
    disk::flatten(base, &end, &image);
    disk::check(&image);
    cached
}
