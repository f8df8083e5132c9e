//! What keeps a sandbox apart from the others and from the host.

mod apart;
mod limits;
pub mod reach;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [reach::CHECKS, limits::CHECKS, apart::CHECKS].concat()
}
