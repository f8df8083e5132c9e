//! The JSON Schemas, made from the types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Conformance, Load, Peers, Report, Sample, Verdicts};

/// Schema of `report.json`: one of the kinds.
#[must_use]
pub fn report() -> Schema {
    let mut generator = generator();
    let kinds = [
        generator.subschema_for::<Report<Load>>(),
        generator.subschema_for::<Report<Conformance>>(),
        generator.subschema_for::<Report<Verdicts>>(),
        generator.subschema_for::<Report<Peers>>(),
    ];
    json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of one run of a tool, schema 1",
        "description": "report.json, as loadgen, e2b-conformance and the mock services write it. Times in nanoseconds end in _ns, sizes in bytes in _bytes.",
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    })
}

/// Schema of a line of `samples.jsonl`.
#[must_use]
pub fn sample() -> Schema {
    let mut schema = generator().into_root_schema_for::<Sample>();
    schema.insert("title".into(), "One line of samples.jsonl, schema 1".into());
    schema
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// As it is committed.
#[must_use]
pub fn text(schema: &Schema) -> String {
    // A schema is made of strings, numbers and lists: it is always JSON.
    let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The name of a type within the schema, for errors.
#[must_use]
pub fn name_of<T: JsonSchema>() -> String {
    T::schema_name().into_owned()
}
