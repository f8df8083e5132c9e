//! Why a path or a tool is none: the routes that are nearest with the first part that differs, the names that are nearest.

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

/// Longest name of a tool that is looked at.
const NAME: usize = 128;

/// Up to three sentences about the nearest names.
pub fn names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name: Vec<char> = name.chars().take(NAME).collect();
    let mut all: Vec<_> = known.map(|it| (edits(&name, it), it)).collect();
    all.sort_unstable();
    all.into_iter()
        .take(3)
        .map(|(edits, it)| format!("{it} is a tool: {edits} letters differ"))
        .collect()
}

/// How many letters have to be put in, left out or replaced to make `other` of `name`.
fn edits(name: &[char], other: &str) -> usize {
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, c) in other.chars().take(NAME).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, own) in name.iter().enumerate() {
            let replaced = diagonal + usize::from(*own != c);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["flights_search", "flights_read", "payments_pay", "x"];
        let said = names("flight_search", known.into_iter());
        assert_eq!(said[0], "flights_search is a tool: 1 letters differ");
        let letters = |a: &str, b| edits(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(letters("kitten", "sitting"), 3);
        assert_eq!((letters("", "abc"), letters("abc", "")), (3, 3));
    }
}
