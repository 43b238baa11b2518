//! TURN (RFC 8656) as two state machines without I/O: the client's allocation, and the server.
#![forbid(unsafe_code)]

pub mod client;
mod time;

pub use time::Time;
