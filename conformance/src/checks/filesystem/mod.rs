//! The filesystem service.

mod change;
mod links;
mod listing;
mod stat;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [change::CHECKS, links::CHECKS, listing::CHECKS, stat::CHECKS].concat()
}

pub use stat::stat as stat_of;
