//! The committed samples: real runs that are shown as they are, and say what is claimed of them.

mod common;

use reports::folder::{self, AnyReport};
use reports::model::load::Series;
use reports::model::verdicts::RuleStanding;
use reports::render::{Loaded, site};
use reports::stats::quantile::Quantile;

#[test]
fn every_committed_sample_is_rendered() {
    let folders = common::samples();
    let loaded: Vec<Loaded> = folders
        .iter()
        .map(|folder| Loaded {
            name: common::name_of_sample(folder),
            report: folder::read(folder).unwrap(),
        })
        .collect();
    let files = site(&loaded);
    let (_, index) = files.iter().find(|(name, _)| name == "index.html").unwrap();
    for one in &loaded {
        assert!(index.contains(&one.name), "{}", one.name);
    }
}

#[test]
fn commands_of_samples_name_no_path_of_the_machine_that_they_ran_on() {
    for folder in common::samples() {
        let text = std::fs::read_to_string(folder.join(folder::REPORT)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        for word in report["command"].as_array().unwrap() {
            let word = word.as_str().unwrap();
            assert!(!word.starts_with('/'), "{}: {word}", folder.display());
        }
    }
}

#[test]
fn the_stall_is_in_the_open_loop_and_not_in_the_closed_one() {
    let accepted = |run: &str| -> Series {
        let folder = common::sample(&format!("stall-open-and-closed/{run}"));
        let AnyReport::Load(report) = folder::read(&folder).unwrap() else {
            panic!("{run} is no load report");
        };
        let mut all = report.body.series.into_iter();
        all.find(|series| series.name == "accepted").unwrap()
    };
    let (open, closed) = (accepted("open"), accepted("closed"));
    assert!(closed.arrival.closed_loop && !open.arrival.closed_loop);
    let p99 = |series: &Series| {
        let all = series.quantiles.iter();
        *all.clone()
            .find(|one| one.quantile == Quantile::P99)
            .unwrap()
    };
    // 2 s in 60 at 100 a second: 200 of 6,000 wait, evenly from 2 s down to nothing, and 60 of them longer than 1.4 s.
    let truth = 1_400_000_000;
    let found = p99(&open);
    assert!(found.supported && found.low.unwrap() < truth && truth < found.high.unwrap());
    assert!(found.value.abs_diff(truth) < truth / 100, "{found:?}");
    assert!(p99(&closed).value < truth / 50, "{:?}", p99(&closed));
}

#[test]
fn agents_in_sandboxes_broke_the_rule_in_their_name_and_no_other() {
    let folder = common::sample("contract-sandboxd");
    let AnyReport::Verdicts(report) = folder::read(&folder).unwrap() else {
        panic!("no report of verdicts");
    };
    assert_eq!(report.body.agents.len(), 15);
    for run in &report.body.agents {
        let broken = run.verdicts.iter();
        let broken = broken.filter(|one| one.standing == RuleStanding::Broken);
        let broken: Vec<_> = broken.map(|one| one.rule.as_str()).collect();
        let name = run.agent.rsplit('/').next().unwrap();
        let name = name.strip_suffix(".py").unwrap();
        let own: Vec<_> = name.strip_prefix("bad_").into_iter().collect();
        assert_eq!(broken, own, "{name}");
        assert!(run.sandbox.is_some(), "{name}");
    }
    let loaded = Loaded {
        name: "contract".to_owned(),
        report: AnyReport::Verdicts(report),
    };
    let files = site(&[loaded]);
    let (_, page) = files.iter().find(|it| it.0 == "verdicts.html").unwrap();
    // Of several agents the page says first which rule each broke, and where the proof is.
    for n in 0..15 {
        assert!(page.contains(&format!("href=\"#agent-contract-{n}\"")));
        assert!(page.contains(&format!("id=\"agent-contract-{n}\"")));
    }
}
