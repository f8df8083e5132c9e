//! What a run yields: a report of kind `conformance`, whose form is that of all tools (`reports/schema/report.schema.json`).

pub use reports::model::conformance::{
    Conformance, ConformanceReport as Report, Counts, Covered, Outcome, Profile, Status,
};

use crate::expected::Standing;
use crate::requirements::{Level, List};

/// The summaries of the areas that have results.
#[must_use]
pub fn profiles(list: &List, results: &[Outcome]) -> Vec<Profile> {
    list.areas
        .iter()
        .filter_map(|area| {
            let (mut core, mut extended) = (Counts::default(), Counts::default());
            let scored = |result: &&Outcome| result.standing != Standing::Unscored;
            for result in results
                .iter()
                .filter(|result| result.area == area.id)
                .filter(scored)
            {
                if result.level == Level::Must {
                    core.add(result.status);
                } else {
                    extended.add(result.status);
                }
            }
            let covered = area
                .requirements
                .iter()
                .filter(|requirement| !requirement.checks.is_empty());
            (core.total() + extended.total() > 0).then(|| Profile {
                area: area.id.to_owned(),
                name: area.profile.clone(),
                core,
                extended,
                requirements: area.requirements.len(),
                covered: covered.count(),
            })
        })
        .collect()
}
