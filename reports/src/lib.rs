//! What a run of a tool yields, and what people read and gates judge of it.
//!
//! ```text
//!  loadgen, conformance, mock verdicts, peers; criterion by way of `import`
//!        │ write                                     a folder
//!  model ─────► folder ───► report.json  samples.jsonl  *.hgrm  *.hlog
//!                 │ read
//!                 ├──► render   index.html and one page per kind, Markdown, CSV
//!                 └──► gate     is the new run really slower than the baseline?
//! ```
//!
//! `model` is the schema: the types here are its only source, `schema/report.schema.json` is made from them and committed.
//! `stats` and `gate::judge` are pure. Whatever a report holds may come from a hostile target: it is bounded when read and
//! escaped when shown.

#![forbid(unsafe_code)]

pub mod cli;
pub mod folder;
pub mod gate;
pub mod import;
pub mod model;
pub mod probe;
pub mod render;
pub mod stats;
