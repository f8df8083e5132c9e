//! The daemon: E2B-compatible API and proxy over KVM microVMs.
