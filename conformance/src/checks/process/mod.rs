//! The process service: starting, output, input, ends.

mod control;
mod ending;
mod environment;
mod input;
mod output;
mod start;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        control::CHECKS,
        ending::CHECKS,
        environment::CHECKS,
        input::CHECKS,
        output::CHECKS,
        start::CHECKS,
    ]
    .concat()
}
