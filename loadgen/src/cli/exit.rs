//! Exit codes.

/// Measured, all good.
pub const GOOD: u8 = 0;
/// Measured; there were failures, something was left behind, or a comparison or leak check went wrong.
pub const BAD: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// No target: nobody there, wrong key, no sandbox, or it went away.
pub const NO_TARGET: u8 = 3;
/// Results could not be written.
pub const OUTPUT: u8 = 4;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;
