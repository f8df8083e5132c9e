//! The committed schemas are those of the types; what is written keeps to them and comes back as it was; the samples do too.

mod common;

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use reports::folder::{self, AnyReport, FolderError};
use reports::model::conformance::Status;
use reports::model::{Body, Load, Report, Sample, Verdicts, schema, verdicts};
use serde_json::Value;

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (name, made) in [
        ("report.schema.json", schema::report()),
        ("sample.schema.json", schema::sample()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("schema")
            .join(name);
        let text = schema::text(&made);
        if std::env::var_os("REPORTS_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        // As values: how members are ordered depends on what else is compiled.
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert!(
            value(&committed) == value(&text),
            "{name} is old; run: REPORTS_WRITE_SCHEMA=1 cargo test -p reports --test schema"
        );
    }
}

fn validator(schema: &schemars::Schema) -> jsonschema::Validator {
    jsonschema::validator_for(&schema.clone().to_value()).unwrap()
}

/// Written, valid, and read again as it was.
fn there_and_back<B: Body + PartialEq + std::fmt::Debug>(report: &Report<B>) {
    static VALIDATOR: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| validator(&schema::report()));
    let value = serde_json::to_value(report).unwrap();
    let wrong: Vec<String> = VALIDATOR
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let text = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<Report<B>>(&text).unwrap(), report);
}

#[test]
fn every_kind_keeps_to_the_schema_and_comes_back() {
    there_and_back(&common::load());
    for text in common::HOSTILE {
        there_and_back(&common::conformance(text));
    }
    there_and_back(&common::report(Verdicts {
        agents: Vec::from([verdicts::AgentRun {
            agent: "a".into(),
            sandbox: None,
            calls: 0,
            verdicts: Vec::new(),
        }]),
    }));
}

#[test]
fn what_is_not_of_the_schema_is_refused() {
    let good = serde_json::to_value(common::load()).unwrap();
    let validator = validator(&schema::report());
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        let refused = serde_json::from_value::<Report<Load>>(value.clone()).is_err();
        assert_eq!(validator.is_valid(&value), !refused, "{value}");
        refused
    };
    assert!(!broken(&|_| ()));
    assert!(broken(&|value| value["kind"] = "conformance".into()));
    assert!(broken(&|value| value["schema"] = 2.into()));
    assert!(broken(&|value| value["more"] = 1.into()));
    assert!(broken(
        &|value| value["body"]["series"][0]["counts"]["ok"] = (-1).into()
    ));
    assert!(broken(
        &|value| value["body"]["series"][0]["unit"] = "furlongs".into()
    ));
    assert!(broken(&|value| {
        value.as_object_mut().unwrap().remove("tool");
    }));
}

#[test]
fn a_folder_that_is_no_report_is_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    for (text, kind) in [
        ("", "Json"),
        ("{}", "Json"),
        ("{\"kind\":\"cake\"}", "Kind"),
        ("{\"kind\":\"load\"}", "Json"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = folder::read(dir.path()).unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{error:?}");
    }
    std::fs::write(dir.path().join("samples.jsonl"), "{\"no\":1}\n").unwrap();
    assert!(matches!(
        folder::samples(dir.path()),
        Err(FolderError::Line { line: 1, .. })
    ));
    // The last line of a run that was killed is no error.
    std::fs::write(dir.path().join("samples.jsonl"), "{\"series\":").unwrap();
    assert_eq!(folder::samples(dir.path()).unwrap(), Vec::new());
}

#[test]
fn every_committed_sample_keeps_to_the_schema() {
    let (report, sample) = (validator(&schema::report()), validator(&schema::sample()));
    let folders = common::samples();
    assert!(!folders.is_empty());
    for folder in folders {
        let text = std::fs::read_to_string(folder.join(folder::REPORT)).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let wrong: Vec<String> = report
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", folder.display());
        match folder::read(&folder).unwrap() {
            AnyReport::Conformance(found) => {
                let all: usize = found
                    .body
                    .profiles
                    .iter()
                    .map(|one| one.core.total() + one.extended.total())
                    .sum();
                assert_eq!(all, found.body.results.len(), "{}", folder.display());
                assert_eq!(found.body.count(Status::HarnessError), 0);
            }
            AnyReport::Load(found) => {
                for series in &found.body.series {
                    let counts = &series.counts;
                    assert_eq!(counts.sent, counts.ok + counts.failed(), "{}", series.name);
                    assert_eq!(
                        counts.planned,
                        counts.sent + counts.dropped,
                        "{}",
                        series.name
                    );
                }
            }
            AnyReport::Verdicts(_) | AnyReport::Peers(_) => {}
        }
        if folder.join(folder::SAMPLES).exists() {
            for line in std::fs::read_to_string(folder.join(folder::SAMPLES))
                .unwrap()
                .lines()
            {
                assert!(
                    sample.is_valid(&serde_json::from_str(line).unwrap()),
                    "{}: {line}",
                    folder.display()
                );
            }
            assert!(!folder::samples(&folder).unwrap().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sample_comes_back(
        series in "\\PC{0,20}",
        round in any::<u32>(),
        value in any::<Option<u64>>(),
        failure in any::<Option<String>>(),
        stages_ns in prop::collection::btree_map("\\PC{0,8}", any::<u64>(), 0..4),
    ) {
        let made = Sample { series, round, planned_ns: 1, sent_ns: value, value, failure, sandbox: None, stages_ns };
        let dir = tempfile::tempdir().unwrap();
        let mut writer = folder::SampleWriter::create(dir.path()).unwrap();
        writer.add(&made).unwrap();
        writer.add(&made).unwrap();
        writer.finish().unwrap();
        prop_assert_eq!(folder::samples(dir.path()).unwrap(), vec![made.clone(), made]);
    }

    #[test]
    fn any_load_report_comes_back(
        texts in prop::collection::vec(any::<String>(), 4),
        numbers in prop::collection::vec(any::<u64>(), 6),
        signed in any::<Option<i64>>(),
        share in 0.0f64..1.0,
        p_value in 0.0f64..1.0,
    ) {
        let mut made = common::load();
        made.run.clone_from(&texts[0]);
        made.seed = Some(numbers[0]);
        made.body.notes.clone_from(&texts);
        let series = &mut made.body.series[0];
        series.counts.failures.insert(texts[1].clone(), numbers[1]);
        series.dimensions.insert(texts[2].clone(), texts[3].clone());
        series.spectrum[0].share = share;
        series.max = Some(numbers[2]);
        series.timeline[0].p99 = Some(numbers[3]);
        made.body.comparisons[0].p_value = p_value;
        let row = &mut made.body.density.as_mut().unwrap().rows[0];
        row.available_delta_bytes = signed;
        row.pss_bytes = Some(numbers[4]);
        made.body.client.as_mut().unwrap().steal_ns = Some(numbers[5]);
        there_and_back(&made);
    }
}
