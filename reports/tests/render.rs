//! Pages of made-up reports: whole, without anything from elsewhere, and with every text as text.

mod common;

use reports::folder::AnyReport;
use reports::model::{Load, Report, Verdicts, verdicts};
use reports::render::{Loaded, conformance_page, site};

fn loaded(name: &str, report: AnyReport) -> Loaded {
    Loaded {
        name: name.into(),
        report,
    }
}

/// Tags that stand within `<body>`, with their attributes; text between them is left out.
fn tags(html: &str) -> Vec<&str> {
    html.split('<')
        .skip(1)
        .filter_map(|part| Some(part.split_once('>')?.0))
        .collect()
}

fn hostile(text: &str) -> Vec<(String, String)> {
    let conformance = common::conformance(text);
    let mut load = common::load();
    let body = &mut load.body;
    body.scenario = text.into();
    body.notes.push(text.into());
    for series in &mut body.series {
        series.name = text.into();
        series.metric = text.into();
        series.arrival.model = text.into();
        series.counts.failures.insert(text.into(), 1);
        series.dimensions.insert(text.into(), text.into());
        series.stages[0].name = text.into();
    }
    body.comparisons[0].title = text.into();
    body.density.as_mut().unwrap().stop.detail = text.into();
    body.leaks.as_mut().unwrap()[0].what = text.into();
    load.environment.host.as_mut().unwrap().cpu = text.into();
    let verdicts = common::report(Verdicts {
        agents: Vec::from([verdicts::AgentRun {
            agent: text.into(),
            sandbox: Some(text.into()),
            calls: 3,
            verdicts: Vec::from([verdicts::RuleVerdict {
                rule: text.into(),
                title: text.into(),
                standing: verdicts::RuleStanding::Broken,
                evidence: Vec::from([text.into()]),
            }]),
        }]),
    });
    let peers = common::report(reports::model::Peers {
        arms: Vec::from([common::tool()]),
        series: load.body.series.clone(),
        comparisons: load.body.comparisons.clone(),
        memory: Vec::from([reports::model::peers::ArmMemory {
            arm: text.into(),
            reading: load.body.density.as_ref().unwrap().rows[0].clone(),
        }]),
        notes: Vec::from([text.into()]),
    });
    let mut files = site(&[
        loaded(text, AnyReport::Conformance(Box::new(conformance.clone()))),
        loaded("load", AnyReport::Load(Box::new(load))),
        loaded("verdicts", AnyReport::Verdicts(Box::new(verdicts))),
        loaded("peers", AnyReport::Peers(Box::new(peers))),
    ]);
    files.push(("report.html".into(), conformance_page(&conformance)));
    files
}

#[test]
fn hostile_text_stays_text_on_every_page() {
    for text in common::HOSTILE {
        let words: Vec<&str> = text.split(' ').map(|_| "harmless").collect();
        let plain = hostile(&words.join(" "));
        for (name, html) in hostile(text)
            .iter()
            .filter(|(name, _)| name.ends_with(".html"))
        {
            let (_, same) = plain.iter().find(|(other, _)| other == name).unwrap();
            // Not one tag more or less than with a harmless text in its place.
            let names = |html| {
                tags(html)
                    .iter()
                    .map(|tag| tag.split([' ', '\n']).next().unwrap())
                    .collect::<Vec<_>>()
            };
            assert!(
                names(html) == names(same),
                "{name} has other tags with {text:?}"
            );
            assert!(!html.contains(['\0', '\u{1b}', '\r', '\u{202e}']), "{name}");
            for tag in tags(html).iter().filter(|tag| !tag.starts_with("script")) {
                let attribute = |word: &str| tag.to_ascii_lowercase().contains(&format!(" {word}"));
                let quoted = tag
                    .split('"')
                    .skip(1)
                    .step_by(2)
                    .map(str::len)
                    .sum::<usize>();
                assert!(quoted > 0 || !attribute("on"), "{name}: {tag}");
            }
        }
    }
}

#[test]
fn a_page_needs_nothing_else() {
    for (name, html) in hostile("harmless")
        .iter()
        .filter(|(name, _)| name.ends_with(".html"))
    {
        assert!(html.contains("default-src 'none'"), "{name}");
        for tag in tags(html) {
            for from in [
                " src=", " srcset=", " action=", " data=", " poster=", " style=",
            ] {
                assert!(!tag.contains(from), "{name}: {tag}");
            }
            if let Some((_, to)) = tag.split_once(" href=\"") {
                let to = to.split('"').next().unwrap();
                let local = to.starts_with('#') || to.split('#').next().unwrap().ends_with(".html");
                assert!(local && !to.contains(':'), "{name}: {to}");
            }
        }
        let ids: Vec<&str> = html
            .split(" id=\"")
            .skip(1)
            .map(|part| part.split('"').next().unwrap())
            .collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{name}: an id twice");
    }
}

#[test]
fn a_body_of_any_size_is_a_page_of_a_bounded_one() {
    let small = conformance_page(&common::conformance("x")).len();
    let large = conformance_page(&common::conformance(&"<".repeat(100_000))).len();
    assert!(large < small + 2_000_000, "{large}");
}

#[test]
fn a_load_report_has_its_charts_in_both_widths() {
    let load: Report<Load> = common::load();
    let files = site(&[loaded("a", AnyReport::Load(Box::new(load)))]);
    let page = &files
        .iter()
        .find(|(name, _)| name == "load.html")
        .unwrap()
        .1;
    let count = |what: &str| page.matches(what).count();
    assert_eq!(
        count("class=\"chart broad\""),
        count("class=\"chart narrow\"")
    );
    // One spectrum, one sweep, two for each timeline, two densities.
    assert_eq!(count("class=\"chart broad\""), 1 + 1 + 2 * 4 + 2);
    assert!(page.contains("<polyline") && !page.contains("NaN") && !page.contains("inf "));
}

#[test]
fn badge_markdown_and_tables_as_they_are() {
    let files = site(&[
        loaded(
            "lab",
            AnyReport::Conformance(Box::new(common::conformance("a text"))),
        ),
        loaded("sweep", AnyReport::Load(Box::new(common::load()))),
    ]);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    insta::assert_debug_snapshot!(names);
    for (name, text) in files.iter().filter(|(name, _)| !name.ends_with(".html")) {
        insta::assert_snapshot!(name.as_str(), text);
    }
}

#[test]
fn writes_where_it_is_told_for_a_look() {
    // `REPORTS_LOOK=DIR cargo test -p reports --test render` leaves the pages for a person.
    if let Some(dir) = std::env::var_os("REPORTS_LOOK") {
        for (name, text) in hostile(common::HOSTILE[0]) {
            reports::folder::write_file(std::path::Path::new(&dir), &name, &text).unwrap();
        }
        let all = [loaded("sweep", AnyReport::Load(Box::new(common::load())))];
        reports::render::write(&all, &std::path::Path::new(&dir).join("load")).unwrap();
        // What the browser's tests are given: tests/browser/made-up/sweep.
        let made_up = serde_json::to_string(&common::load()).unwrap() + "\n";
        reports::folder::write_file(std::path::Path::new(&dir), "sweep.json", &made_up).unwrap();
    }
}
