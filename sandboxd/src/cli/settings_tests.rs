//! Where settings come from, and what is said when they cannot be used.

use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::{Options, ServeArgs, SettingsError, Verdict};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ServeArgs,
}

fn options(words: &[&str]) -> Options {
    let words = ["serve"].iter().chain(words);
    Line::try_parse_from(words).unwrap().args.options
}

fn files(dir: &Path) -> Options {
    let mut options = Options::default();
    for (place, name) in [
        (&mut options.kernel, "vmlinux"),
        (&mut options.agent_disk, "agent.erofs"),
        (&mut options.overlay_base, "overlay.ext4"),
        (&mut options.templates, "templates"),
        (&mut options.microvm, "microvm"),
    ] {
        std::fs::write(dir.join(name), b"").unwrap();
        *place = Some(dir.join(name));
    }
    options
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandboxd.toml");
    let text = "listen = \"0.0.0.0:80\"\nmax-sandboxes = 3\ndefault-egress = \"allow\"\n\
                exempt-networks = [\"10.1.0.0/16\"]\nno-network = false\nmetrics-interval-seconds = 0\n";
    std::fs::write(&file, text).unwrap();
    let from_file = super::read(&file).unwrap();
    let given = options(&["--max-sandboxes", "7", "--dns", "9.9.9.9,1.0.0.1"]);
    let settings = given.over(from_file).over(files(dir.path()));
    let settings = settings.settle(10_000).unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:80");
    assert_eq!(settings.limits.sandboxes, 7);
    assert_eq!(settings.limits.memory_mib, 9_000);
    assert_eq!(settings.memory_floor_mib, None);
    assert_eq!(settings.default_egress, Verdict::Allow);
    assert_eq!(settings.metrics_interval, None);
    assert_eq!(settings.start_timeout, Duration::from_secs(60));
    let network = settings.network.unwrap();
    assert_eq!(network.exempt[0].to_string(), "10.1.0.0/16");
    assert_eq!(network.dns.len(), 2);
    assert!(!settings.keep_sandboxes);
    let bare = options(&["--no-network", "--keep-sandboxes-on-exit"]);
    let settings = bare.over(files(dir.path())).settle(0).unwrap();
    assert!(settings.network.is_none() && settings.keep_sandboxes);
}

#[test]
fn services_come_from_flags_or_the_file_and_need_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandboxd.toml");
    std::fs::write(&file, "internal-services = [\"a.b=h:1\", \"c.d=h:2\"]\n").unwrap();
    let names = |options: Options| {
        let settings = options.over(files(dir.path())).settle(0);
        let services = settings.map(|settings| settings.network.unwrap().services);
        services.map(|all| all.iter().map(|it| it.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(super::read(&file).unwrap()).unwrap(), ["a.b", "c.d"]);
    let given = [
        "--internal-service",
        "e.f=h:1",
        "--internal-service=g.h=[::1]:80",
    ];
    let over = options(&given).over(super::read(&file).unwrap());
    assert_eq!(names(over).unwrap(), ["e.f", "g.h"]);
    let twice = names(options(&["--internal-service", "a.b=h:1,a.b=h:2"]));
    insta::assert_snapshot!(twice.unwrap_err(), @"--internal-service: the service `a.b` is named twice.");
    let no_network = options(&["--internal-service", "a.b=h:1", "--no-network"]);
    insta::assert_snapshot!(
        names(no_network).unwrap_err(),
        @"--internal-service: sandboxes without a network reach no services: leave out --no-network or --internal-service."
    );
}

#[test]
fn the_pool_fits_the_host_and_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let pool = |words: &[&str], mib| {
        let settings = options(words).over(files(dir.path())).settle(mib);
        settings.map(|settings| (settings.pool.least, settings.pool.most))
    };
    assert_eq!(pool(&[], 32_000).unwrap(), (1, 8));
    assert_eq!(pool(&[], 2_400).unwrap(), (1, 4));
    assert_eq!(pool(&[], 100).unwrap(), (1, 1));
    assert_eq!(pool(&["--pool-max", "0"], 32_000).unwrap(), (0, 0));
    assert_eq!(pool(&["--pool-max", "64"], 100).unwrap(), (1, 64));
    assert_eq!(pool(&["--pool-min", "3"], 100).unwrap(), (3, 3));
    let error = pool(&["--pool-min", "3", "--pool-max", "2"], 100).unwrap_err();
    insta::assert_snapshot!(error, @"--pool-min must be at most --pool-max.");
}

#[test]
fn a_host_that_promises_more_than_it_has_keeps_a_floor() {
    let dir = tempfile::tempdir().unwrap();
    let floor = |promised: &str, available| {
        let given = options(&["--memory-limit-mib", promised]);
        let settings = given.over(files(dir.path())).settle(available).unwrap();
        settings.memory_floor_mib
    };
    assert_eq!(floor("10000", 10_000), None);
    assert_eq!(floor("10001", 10_000), Some(500));
    assert_eq!(floor("2000", 1_000), Some(256));
}

#[test]
fn what_cannot_be_used_is_named_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandboxd.toml");
    std::fs::write(&file, "listten = \"x\"\n").unwrap();
    let error = super::read(&file).unwrap_err();
    assert!(
        error.to_string().contains("unknown field `listten`"),
        "{error}"
    );
    let missing = Options::default().settle(0).unwrap_err().to_string();
    insta::assert_snapshot!(missing, @"The guest kernel must be named: with --kernel, the environment variable SANDBOXD_KERNEL, or `kernel` in the file given with --config. `cargo xtask setup` builds one.");
    let absent = options(&["--kernel", "/does/not/exist"]).settle(0);
    assert!(matches!(
        absent,
        Err(SettingsError::Absent { flag: "kernel", .. })
    ));
    let zero = options(&["--max-sandboxes", "0"]).over(files(dir.path()));
    insta::assert_snapshot!(zero.settle(0).unwrap_err(), @"--max-sandboxes must be at least 1.");
    let both = ["serve", "--kill-on-exit", "--keep-sandboxes-on-exit"];
    assert!(Line::try_parse_from(both).is_err());
}
