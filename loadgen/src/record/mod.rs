//! What a run saw, on its way into files.
//!
//! ```text
//!   turns ──► channel ──► recorder (a thread of its own: a slow disk delays no request)
//!                            ├─ samples.jsonl   each reading as it comes
//!                            ├─ collectors      one per series: histogram, timeline, stages, failures by kind
//!                            └─ live            what the progress display shows
//!   end ──► report.json, NAME.hgrm, NAME.hlog   from the collectors, also when samples could not be written
//! ```
//!
//! Histograms are HDR with three significant digits; quantiles are values at ranks of the histogram.

pub mod collector;
pub mod event;
pub mod export;
pub mod histogram;
pub mod recorder;
pub mod space;
pub mod timeline;

pub use self::event::{Event, Job, Outcome, Reading, Trouble};
pub use self::recorder::{Recorded, Recorder};
