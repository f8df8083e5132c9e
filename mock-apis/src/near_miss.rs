//! Why a path is none: the routes that are nearest, and the first part that differs.

use crate::contract::template::Template;

/// Up to three sentences about the nearest templates.
pub fn explain<'a>(
    path: &str,
    templates: impl Iterator<Item = (&'a str, &'a Template)>,
) -> Vec<String> {
    let mut all: Vec<_> = templates
        .map(|(name, template)| (template.distance(path), name, template.to_string()))
        .collect();
    all.sort();
    all.into_iter()
        .take(3)
        .map(|(distance, name, template)| {
            format!("{name} is at {template}: {distance} parts differ")
        })
        .collect()
}
