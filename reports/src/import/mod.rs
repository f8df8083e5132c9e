//! Reports of what other tools measured.

pub mod criterion;
