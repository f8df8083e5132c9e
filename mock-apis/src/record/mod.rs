//! From a real API, called once, to a scenario that answers as it did.
//!
//! ```text
//! client ─► proxy ─► upstream (http or https)
//!             └─► tape of exchanges ─► convert (pure) ─► scenario ─► write (pure) ─► YAML ─► file, moved into place
//! ```
//!
//! A route is a method and a path as it was called; ids in it stay as they are. Each route has its replies in their order:
//!
//! ```text
//! recorded  A A B A            rules  {first: 2} A   {first: 1} B   always A
//! ```
//!
//! A rule counts the calls that come as far as it, so each `first` begins where the one before has ended, and the last reply goes on for
//! good. Calls with a query have rules of their own, which hold for that query only (of a name that comes twice, the last value counts).
//!
//! Nothing of a request is written but its method, path and query, and no secret that it showed: see [`secrets`].

pub mod convert;
pub mod exchange;
pub mod file;
pub mod proxy;
pub mod secrets;
pub mod tape;
pub mod upstream;
pub mod write;

/// Largest body of a request or reply that is passed on, in bytes: 8 MiB.
pub const MAX_PASSED: usize = 8 << 20;
/// Largest JSON body that is kept, in bytes: 256 KiB.
pub const MAX_KEPT: usize = 256 << 10;
/// Most bytes that the kept calls take when they are written, each once: 1.5 MiB. A scenario file has 4 MiB at most, and a reply may stand in
/// it twice.
pub const MAX_WRITTEN: usize = 3 << 19;
/// Most bytes of the JSON pointers of all values that are kept: 16 MiB. Who reads a scenario file has 64 MiB, each value is noted twice when
/// it is in a mapping, and a reply may stand twice.
pub const MAX_POINTERS: usize = 16 << 20;
/// Most connections of clients at once; more are closed as they come.
pub const MAX_CONNECTIONS: usize = 256;
/// Longest time for a request's headers, and again for its body.
pub const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// Longest time for a call to the real API, its whole reply included.
pub const REPLY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
