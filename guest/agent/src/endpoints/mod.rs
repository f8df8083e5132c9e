//! The plain HTTP routes of envd, one file each.

pub mod envs;
pub mod health;
pub mod init;
pub mod metrics;
