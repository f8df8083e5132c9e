//! The suite's own clients: HTTP/1.1 with every byte of a request in its hand, and Connect on top.

pub mod connect;
pub mod dial;
pub mod encode;
pub mod envelope;
pub mod http1;
pub mod http2;
pub mod lines;
pub mod proto;
pub mod reply;
pub mod request;
pub mod websocket;
