//! The process service: starting, output, input, ends.

mod after;
mod control;
mod ending;
mod environment;
mod input;
mod output;
mod start;
mod user;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        after::CHECKS,
        control::CHECKS,
        ending::CHECKS,
        environment::CHECKS,
        input::CHECKS,
        output::CHECKS,
        start::CHECKS,
        user::CHECKS,
    ]
    .concat()
}
