//! Uploads, downloads, signed URLs.

mod further;
mod read;
mod signed;
mod write;

use crate::check::Check;

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [further::CHECKS, read::CHECKS, signed::CHECKS, write::CHECKS].concat()
}
