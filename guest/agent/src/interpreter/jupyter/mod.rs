//! The Jupyter messaging protocol, client side, without a ZeroMQ library.
//!
//! ```text
//! message      signed JSON parts
//! frame        ZMTP 3.0: greeting, frames, READY                       pure
//! connection   one socket over a unix socket                           I/O
//! ```
//!
//! Of ZeroMQ only what a client of one kernel needs is here: two DEALERs and one SUB, each with one peer that
//! never moves. A general library brings reconnection, load balancing and several transports, and takes any
//! frame length from its peer: a kernel could make process 1 run out of memory with eleven bytes.

pub mod connection;
pub mod frame;
pub mod message;
