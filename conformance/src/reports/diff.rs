//! What changed between two reports.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::{Report, Status};

/// The changes, and how many of them are for the worse.
#[must_use]
pub fn diff(before: &Report, after: &Report) -> (String, usize) {
    let old: BTreeMap<&str, Status> = before
        .body
        .results
        .iter()
        .map(|result| (result.check.as_str(), result.status))
        .collect();
    let new: BTreeMap<&str, Status> = after
        .body
        .results
        .iter()
        .map(|result| (result.check.as_str(), result.status))
        .collect();
    let mut out = String::new();
    let (mut worse, mut same) = (0, 0);
    for (check, was) in &old {
        match new.get(check) {
            Some(is) if is == was => same += 1,
            Some(is) => {
                let mark = match (was, is) {
                    (Status::Pass, _) => "worse ",
                    (_, Status::Pass) => "better",
                    _ => "other ",
                };
                worse += usize::from(*was == Status::Pass);
                let _ = writeln!(out, "{mark} {check}: {was} → {is}");
            }
            None => {
                let _ = writeln!(out, "gone   {check}: was {was}");
            }
        }
    }
    for (check, is) in new.iter().filter(|(check, _)| !old.contains_key(*check)) {
        let _ = writeln!(out, "new    {check}: {is}");
    }
    let _ = writeln!(out, "{same} the same, {worse} worse");
    (out, worse)
}
