//! Metrics and logs.

mod logs;
mod samples;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [samples::CHECKS, logs::CHECKS].concat()
}
