//! Refusals: their shape, and what must be refused.

mod body;
mod query;
mod refused;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [body::CHECKS, query::CHECKS, refused::CHECKS].concat()
}
