//! What a host holds: memory of the sandboxes' processes, and counts of what could leak.
//!
//! ```text
//!   question {process, guest bytes, folders} ─► /proc, /sys ─► reading {machine, memory, counts}
//!
//!   here       read directly (--on-host)
//!   remote     `loadgen probe --listen ADDR` on the host; one line of JSON each way   (--remote-probe)
//!   command    a command that prints a reading, such as `ssh host loadgen probe`      (--probe-command)
//! ```
//!
//! Nothing is installed on the host and nothing in it is asked to help: figures are the kernel's own.

pub mod counts;
pub mod ledger;
pub mod maps;
pub mod reach;
pub mod reading;
pub mod serve;

pub use self::reach::{Probe, ProbeError};
pub use self::reading::{Question, Reading};
