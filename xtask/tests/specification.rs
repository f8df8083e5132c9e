//! SPECIFICATION.md names a test for each promise; here each of those tests must exist.

use std::path::Path;

/// The `file::function` pairs in a Markdown text.
fn named_tests(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .map(|(file, function)| (file.to_owned(), function.to_owned()))
        .collect()
}

#[test]
fn every_promise_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let specification = std::fs::read_to_string(root.join("SPECIFICATION.md")).unwrap();
    let tests = named_tests(&specification);
    assert!(!tests.is_empty(), "the specification names no test");
    let missing: Vec<_> = tests
        .iter()
        .filter(|(file, function)| {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            !source.contains(&format!("fn {function}("))
                && !source.contains(&format!("def {function}("))
        })
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_row_of_a_promise_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let specification = std::fs::read_to_string(root.join("SPECIFICATION.md")).unwrap();
    let unnamed: Vec<_> = specification
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise "))
        .filter(|line| named_tests(line).is_empty())
        .collect();
    assert!(unnamed.is_empty(), "promises without a test: {unnamed:#?}");
}
