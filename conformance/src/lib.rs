//! A conformance suite for servers that speak the E2B API.
//!
//! ```text
//!  requirements/*.toml   what a server must do: id, MUST/SHOULD/MAY, sentence, source ── names ──► checks
//!  checks/               what is tried on the wire; each names the fault of the bad server that it must catch
//!  sdk/                  the same through the official SDKs, at several versions
//!        │ run by
//!  runner ──► target     one context per check: client, evidence, sandboxes to clean up
//!        │ yields
//!  report ──► reports/   console, JUnit, Markdown; JSON, HTML and badge by the crate `reports`
//! ```
//!
//! The suite knows the interface from its documents and from what clients send, never from a server's source: its types
//! and clients are its own, so that a server's mistake cannot hide in a shared definition.

#![forbid(unsafe_code)]

pub mod check;
pub mod checks;
pub mod cli;
pub mod context;
pub mod evidence;
pub mod expected;
pub mod ledger;
pub mod outside;
pub mod preflight;
pub mod probe;
pub mod redact;
pub mod report;
pub mod reports;
pub mod requirements;
pub mod runner;
pub mod sandbox;
pub mod sdk;
pub mod sets;
pub mod target;
pub mod trace;
pub mod wire;
