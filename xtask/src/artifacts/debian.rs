//! The start of a tree from Debian packages, with mmdebstrap.
//!
//! The packages come from where this machine gets its own: if apt here is set up for the wanted
//! release, its mirrors are used, else Debian's.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::SOURCE_DATE_EPOCH;
use super::recipe::Debian;
use crate::progress::Task;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes the folder `tree` from Debian's `minbase` and the recipe's packages. `dpkg_config` is the
/// image's own dpkg configuration, in force from the first package on.
///
/// # Errors
/// When mmdebstrap is missing or fails: no network, no such package, a signature that doesn't fit.
pub fn bootstrap(
    task: &Task,
    log: &Path,
    debian: &Debian,
    dpkg_config: Option<&Path>,
    tree: &Path,
) -> Result<()> {
    task.message("asking apt for its mirrors");
    let names: Vec<_> = debian.packages.iter().map(|p| p.name.as_str()).collect();
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
        .env("LANG", "C.UTF-8")
        .args(["--mode=root", "--format=directory", "--variant=minbase"])
        .arg(format!("--include={}", names.join(",")))
        .arg("--aptopt=Acquire::Languages \"none\"");
    if let Some(path) = dpkg_config {
        mmdebstrap.arg(format!("--dpkgopt={}", path.display()));
    }
    mmdebstrap
        .arg(&debian.suite)
        .arg(tree)
        .args(sources(&debian.suite));
    task.run(&mut mmdebstrap, log)
}

/// The lines of a sources.list for `suite` as this machine's apt has them; none if it has none.
fn sources(suite: &str) -> Vec<String> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
        ])
        .arg("Created-By: Packages")
        .output();
    // Without apt (another distribution), mmdebstrap's own default is Debian's main mirror.
    output.map_or_else(
        |_| Vec::new(),
        |o| parse_sources(&String::from_utf8_lossy(&o.stdout), suite),
    )
}

fn parse_sources(targets: &str, suite: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for target in targets.lines() {
        let [origin, uri, release, component] = target.split('|').collect::<Vec<_>>()[..] else {
            continue;
        };
        let ours = release == suite
            || release
                .strip_prefix(suite)
                .is_some_and(|r| r.starts_with('-'));
        // Backports would bring newer versions than the release's own.
        if origin != "Debian" || !ours || release.ends_with("-backports") || component != "main" {
            continue;
        }
        let line = format!("deb [signed-by={KEYRING}] {uri} {release} {component}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_releases_own_archives_are_taken() {
        let targets = "\
Debian|http://mirror.test/debian/|bookworm|main
Debian|http://mirror.test/debian/|bookworm|main
Debian|http://mirror.test/debian/|bookworm|contrib
Debian|http://mirror.test/debian/|bookworm-updates|main
Debian|http://mirror.test/debian/|bookworm-backports|main
Debian|http://mirror.test/debian-security/|bookworm-security|main
Debian|http://mirror.test/debian/|trixie|main
Elsewhere|https://example.test/node/|nodistro|main
not a target
";
        let signed = format!("deb [signed-by={KEYRING}] http://mirror.test");
        assert_eq!(
            parse_sources(targets, "bookworm"),
            [
                format!("{signed}/debian/ bookworm main"),
                format!("{signed}/debian/ bookworm-updates main"),
                format!("{signed}/debian-security/ bookworm-security main"),
            ]
        );
    }

    #[test]
    fn a_foreign_machine_has_none() {
        assert!(parse_sources("Ubuntu|http://u.test|noble|main\n", "bookworm").is_empty());
    }
}
