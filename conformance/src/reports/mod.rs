//! Faces of a report: each takes the same value and gives text.

pub mod console;
pub mod diff;
pub mod junit;
pub mod markdown;
