//! Reading template folders.

use std::path::Path;

use super::{Moment, Reference, Template, TemplateError, Templates};

/// A template for tests of other modules.
pub fn template(id: &str, memory_mib: u32) -> Template {
    Template {
        id: id.to_owned(),
        aliases: vec![id.to_owned()],
        rootfs: format!("/templates/{id}/rootfs.erofs").into(),
        vcpus: 2,
        memory_mib,
        disk_mib: 10_240,
        user: "user".to_owned(),
        workdir: "/home/user".to_owned(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        code_interpreter: false,
        build_id: uuid::Uuid::from_u128(1),
        built_at: Moment::from_micros(1_700_000_000_000_000),
    }
}

fn write(folder: &Path, name: &str, json: &str) {
    let home = folder.join(name);
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("template.json"), json).unwrap();
    std::fs::write(home.join("rootfs.erofs"), b"erofs").unwrap();
}

fn description(id: &str, alias: &str) -> String {
    format!(
        r#"{{"schema":1,"template_id":"{id}","aliases":["{alias}"],"rootfs":"rootfs.erofs","vcpus":2,
            "memory_mib":512,"disk_mib":10240,"user":"user","workdir":"/home/user","env":{{"PATH":"/bin"}},
            "code_interpreter":false,"rootfs_sha256":"00","recipe_hash":"11"}}"#
    )
}

fn find(templates: &Templates, text: &str) -> Option<String> {
    templates
        .resolve(&Reference::parse(text)?)
        .map(|t| t.id.clone())
}

#[test]
fn a_template_is_found_by_id_alias_and_default_tag() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "base", &description("base", "debian"));
    std::fs::create_dir(dir.path().join("not-a-template")).unwrap();
    let templates = Templates::load(dir.path()).unwrap();
    for name in ["base", "debian", "base:default", "DEBIAN"] {
        assert_eq!(find(&templates, name).as_deref(), Some("base"), "{name}");
    }
    for name in ["other", "base:v2", "team/base"] {
        assert_eq!(find(&templates, name), None, "{name}");
    }
    let template = templates.iter().next().unwrap();
    assert_eq!(template.rootfs, dir.path().join("base/rootfs.erofs"));
    assert_eq!(template.build_id.get_version_num(), 8);
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Templates::load(dir.path()).unwrap_err();
    assert!(matches!(load(), TemplateError::Empty(_)));
    write(dir.path(), "a", "{");
    assert!(matches!(load(), TemplateError::Parse { .. }));
    write(
        dir.path(),
        "a",
        &description("base", "x").replace(":512", ":64"),
    );
    assert!(matches!(load(), TemplateError::Invalid { .. }));
    write(
        dir.path(),
        "a",
        &description("base", "x").replace("user\":", "usr\":"),
    );
    assert!(load().to_string().contains("unknown field `usr`"));
    write(dir.path(), "a", &description("base", "same"));
    write(dir.path(), "b", &description("other", "same"));
    assert!(matches!(load(), TemplateError::Duplicate { .. }));
    std::fs::remove_file(dir.path().join("b/rootfs.erofs")).unwrap();
    assert!(matches!(load(), TemplateError::Read { .. }));
}

#[test]
fn no_sandbox_has_more_processors_than_the_host() {
    let mut templates = Templates::default();
    for (id, vcpus) in [("small", 1), ("large", 8)] {
        templates.add(Template {
            id: id.to_owned(),
            aliases: vec![format!("{id}-alias")],
            vcpus,
            ..template(id, 512)
        });
    }
    let limited = templates.with_at_most(4);
    let sizes: Vec<_> = limited.iter().map(|t| (t.id.as_str(), t.vcpus)).collect();
    assert_eq!(sizes, [("small", 1), ("large", 4)]);
    let alias = Reference::parse("large-alias").unwrap();
    assert_eq!(limited.resolve(&alias).unwrap().vcpus, 4);
}
