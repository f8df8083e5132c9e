//! Making, seeing, prolonging and killing sandboxes.

mod connect;
mod create;
mod detail;
mod kill;
mod lifetime;
mod limits;
mod list;
mod paging;

use crate::check::Check;

pub use lifetime::{about, left};

/// All checks of the area.
pub fn all() -> Vec<Check> {
    [
        connect::CHECKS,
        create::CHECKS,
        detail::CHECKS,
        kill::CHECKS,
        lifetime::CHECKS,
        limits::CHECKS,
        list::CHECKS,
        paging::CHECKS,
    ]
    .concat()
}
