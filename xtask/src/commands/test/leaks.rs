//! What a host holds that a daemon could leave behind, before and after.
//!
//! An [`Inventory`] is a set of lines `kind<TAB>what`. Two of them are compared as sets: what is
//! there afterwards and was not before has leaked.
//!
//! A daemon keeps processes ready for sandboxes to come; which ones, and how many, changes. One that
//! is still waiting (a child of a daemon, its run folder called by the name that it was started
//! with) is left out with all that is called by that name. One that a sandbox has taken has given
//! its folder away, and counts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::daemon::Folders;
use crate::exec::CommandLine;
use crate::host::Host;

/// How long things may take to go after the call that removes them returned.
const SETTLE: Duration = Duration::from_secs(30);

/// Prints the inventory. `$1` is the daemon's run folder, `$2` its state folder.
const SCRIPT: &str = r#"
tab=$(printf '\t')
# What is called by a waiting process's name.
waiting='/(-'
waits() {
    while read -r key value _; do [ "$key" = PPid: ] && read -r name < "/proc/$value/comm"; done < "$1/status"
    [ "$name" = sandboxd ] || return 1
    name=$(tr '\0' '\n' < "$1/cmdline" | sed -n '/^--id$/{n;p;}')
    case $name in p?*) [ -d "$run/$name" ] ;; *) return 1 ;; esac
}
run=$1
for entry in /proc/[0-9]*; do
    read -r name < "$entry/comm" || continue
    case $name in
        microvm) if waits "$entry"; then waiting="$waiting|$name"; else echo "process${tab}microvm ${entry#/proc/}"; fi ;;
        # Restarted by those who kill it: how many there are is what counts.
        sandboxd) daemons=$((daemons + 1)); echo "process$tab$name, number $daemons" ;;
    esac
done 2>/dev/null
for link in /sys/class/net/*; do
    # The daemon keeps a few ready; which ones changes.
    case ${link##*/} in
        sbx*) taps=$((taps + 1)); echo "interface${tab}sbx, number $taps" ;;
        *) echo "interface$tab${link##*/}" ;;
    esac
done
# Whoever makes the first network namespace leaves their folder mounted: ip-netns(8).
while read -r _ place kind _; do
    [ "$place" = /run/netns ] || echo "mount$tab$kind at $place"
done < /proc/self/mounts
waiting="$waiting)(/|\$)"
find "$1" "$2/sandboxes" -mindepth 1 2>/dev/null | grep -Ev "$waiting" | sed "s/^/file$tab/"
find /sys/fs/bpf -mindepth 1 2>/dev/null | sed "s/^/bpf$tab/"
find /sys/fs/cgroup -mindepth 1 -type d 2>/dev/null | grep -E 'sandboxd|microvm|sbx' | grep -Ev "$waiting" | sed "s/^/cgroup$tab/"
nft list tables 2>/dev/null | sed "s/^/nft$tab/"
while read -r _ _ _ _ _ _ _ path; do
    case $path in "$1"/* | "$2"/*) echo "socket$tab$path" ;; esac
done < /proc/net/unix | grep -Ev "$waiting"
exit 0
"#;

/// What is there at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Takes stock of a host.
    ///
    /// # Errors
    /// When the script can't be run there.
    pub fn take(host: &Host, folders: &Folders) -> Result<Self> {
        let run = folders.run.to_string_lossy().into_owned();
        let state = folders.state.to_string_lossy().into_owned();
        let words = [
            "sh".into(),
            "-c".into(),
            SCRIPT.into(),
            "sh".into(),
            run,
            state,
        ];
        let command = CommandLine::new(words);
        let path = command.env.get("PATH").cloned().unwrap_or_default();
        let command = command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .cwd("/");
        Ok(Self::parse(&host.output(command, Duration::from_secs(60))?))
    }

    /// What is here and was not in `before`.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.0
            .difference(&before.0)
            .map(|line| line.replace('\t', ": "))
            .collect()
    }

    fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| line.contains('\t'))
                .map(str::to_owned)
                .collect(),
        )
    }
}

/// Waits until a host holds nothing beyond `before`; gives what it still holds at the end.
///
/// # Errors
/// When stock can't be taken.
pub fn settle(host: &Host, folders: &Folders, before: &Inventory) -> Result<Vec<String>> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let left = Inventory::take(host, folders)?.beyond(before);
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_a_leak_what_went_is_not() {
        let before = Inventory::parse("interface\tlo\nmount\tproc at /proc\n");
        let after = Inventory::parse("interface\tlo\ninterface\tsbx0\n");
        assert_eq!(after.beyond(&before), ["interface: sbx0"]);
    }

    #[test]
    fn the_script_sees_a_file_and_a_socket_appear() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders {
            state: dir.path().join("state"),
            run: dir.path().join("run"),
        };
        std::fs::create_dir_all(&folders.run).unwrap();
        let before = Inventory::take(&Host::Direct, &folders).unwrap();
        assert!(before.0.contains("interface\tlo"), "{before:?}");
        assert!(
            before.0.iter().any(|line| line.ends_with("at /proc")),
            "{before:?}"
        );

        let path = folders.run.join("control.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let left = Inventory::take(&Host::Direct, &folders)
            .unwrap()
            .beyond(&before);
        let place = path.display();
        assert!(left.contains(&format!("file: {place}")), "{left:?}");
        assert!(left.contains(&format!("socket: {place}")), "{left:?}");
    }

    #[test]
    fn a_process_that_waits_for_a_sandbox_is_no_leak_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders {
            state: dir.path().join("state"),
            run: dir.path().join("run"),
        };
        let [daemon, machine] = ["sandboxd", "microvm"].map(|name| dir.path().join(name));
        for program in [&daemon, &machine] {
            std::fs::copy("/bin/sh", program).unwrap();
        }
        let waiting = folders.run.join("pwaiting");
        std::fs::create_dir_all(&waiting).unwrap();
        let before = Inventory::take(&Host::Direct, &folders).unwrap();
        // Both end with their standard input.
        let mut child = std::process::Command::new(&daemon)
            .args(["-c", r#""$0" -c 'read x' --id pwaiting <&0; true"#])
            .arg(&machine)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let called = format!("{}\0-c", machine.display());
        let found = || {
            let mut pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.parse::<u32>().ok()
            });
            let ours = |pid: &u32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(called.as_bytes())
            };
            pids.find(ours)
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let pid = loop {
            if let Some(pid) = found() {
                break pid;
            }
            assert!(Instant::now() < deadline, "it starts");
        };
        let leaks = || {
            let left = Inventory::take(&Host::Direct, &folders).unwrap();
            left.beyond(&before)
                .contains(&format!("process: microvm {pid}"))
        };
        assert!(!leaks());
        let files = Inventory::take(&Host::Direct, &folders).unwrap();
        let named = |line: &String| line.starts_with("file") && line.ends_with("pwaiting");
        assert!(!files.0.iter().any(named), "{files:?}");
        std::fs::rename(&waiting, folders.run.join("isandbox")).unwrap();
        assert!(leaks());
        drop(child.stdin.take());
        let _ = child.wait();
    }
}
