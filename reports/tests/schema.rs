//! The committed schemas are those of the types.

use std::path::Path;

use reports::model::schema;

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
        assert!(
            committed == text,
            "{name} is old; run: REPORTS_WRITE_SCHEMA=1 cargo test -p reports --test schema"
        );
    }
}
