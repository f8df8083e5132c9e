//! Terminals.

mod control;
mod terminal;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [terminal::CHECKS, control::CHECKS].concat()
}
