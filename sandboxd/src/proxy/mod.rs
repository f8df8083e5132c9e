//! The proxy: traffic of clients to the ports of sandboxes, on the same port as the API.
//!
//! ```text
//!   request ─► route ──► API
//!                │
//!                ├─ {port}-{id}.{domain}, or E2b-Sandbox-Id and E2b-Sandbox-Port, or a signed /files URL
//!                ▼
//!           sandbox known? ─► path and token allowed? ─► a place free? ─► serves, or wakes? ─► connect to the guest ─► forward
//!                │ 502           │ 404, 403                 │ 429             │ 502, 403, 409, 429    │ 502
//!                └───────────────┴──────────────────────────┴─────────────────┴───────────────────────┴─► [`reply`]
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`route`] | which sandbox and port a request is for: pure |
//! | [`access`] | which paths are closed, and which ports ask for a token: pure |
//! | [`signed`] | finding the sandbox of a signed URL by its signature: pure |
//! | [`headers`] | what is taken off and put on a request and an answer: pure |
//! | [`reply`] | the table of the proxy's own answers |
//! | [`upstream`] | connections to guests: dialling, retrying, keeping for the next request |
//! | [`forward`] | one request from end to end |
//! | [`body`], [`tunnel`] | bytes in either direction, cut when the sandbox ends |
//! | [`rest`] | what is left of a request's body when nobody reads it |
//! | [`server`] | the listening socket |
//!
//! Rules:
//! 1. Bytes flow in both directions at the pace of the slower side; nothing is collected.
//! 2. The moment a sandbox is killed, paused or rolled back all its connections are cut, abnormally: a client can tell the
//!    end of an answer from the end of a sandbox. The next request finds no sandbox, or waits until it serves again: after
//!    a rollback always, after a pause where the sandbox was created so that traffic wakes it.
//! 3. What a client sends is parsed and written anew; nothing that concerns one connection reaches the other.

pub mod access;
pub mod body;
pub mod forward;
pub mod headers;
pub mod reply;
pub mod rest;
pub mod route;
pub mod server;
pub mod signed;
pub mod tunnel;
pub mod upstream;

#[cfg(test)]
mod tests;
