//! HTTP/1.1 as the load generator speaks it: one request at a time on a connection, connections kept for the next one.
//!
//! ```text
//!   pool: authority → idle connections ─┬─ one is idle and open ─► send
//!                                       └─ none ─► resolve, connect, TLS ─► send
//!   reply read to its end ─► the connection goes back · anything else ─► it is closed
//! ```
//!
//! A request is sent again only when hyper says that its first byte never left: a kept connection that the server had closed.
//! Nothing else is retried; a retry would hide a failure and count its time twice.

pub mod address;
pub mod connection;
pub mod envelope;
pub mod error;
pub mod pool;
pub mod reply;
pub mod stream;

pub use self::error::WireError;
pub use self::pool::Pool;
pub use self::reply::Reply;
