//! The code interpreter: contexts that run cells through Jupyter kernels.
//!
//! ```text
//! routes ──► service (contexts) ──► context (keeps a kernel running) ──► kernel (process, sockets)
//!    └──► execution (one cell, streamed) ─── progress (messages → events) ─── events, result
//!
//! languages    names, environment code          kernelspec   kernels of the image
//! jupyter      the messaging protocol
//! ```
//!
//! The agent speaks to kernels itself: there is no Jupyter server. One default python context is started with the
//! sandbox ([`Interpreter::prepare`]); others are made on demand. A cell waits for its turn in its context; contexts
//! do not wait for each other. Kernels run as the sandbox's default user and are guest code: what they send is
//! bounded and checked.

pub mod context;
pub mod error;
pub mod events;
pub mod execution;
pub mod jupyter;
pub mod kernel;
pub mod kernelspec;
pub mod languages;
pub mod progress;
pub mod result;
mod routes;
mod service;

pub use routes::router;
pub use service::{Interpreter, RUNTIME_DIR};

#[cfg(test)]
mod tests;
