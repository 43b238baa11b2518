//! A TURN client over the real network (RFC 8656): a relayed address on somebody's server, and data through it.
//!
//! [`TurnClient`] finds a server and gets an allocation from it, over UDP, TCP, TLS or DTLS; a [`Relay`] is that
//! allocation. A task of its own keeps it: refreshes, permissions, channels, another allocation where the server
//! lost this one, another stream where the first broke. All protocol is `nilas-turn`'s.
//!
//! # The rooms
//!
//! - `client`: from a URI to an allocation: servers in a staggered race, redirections, deadlines.
//! - `handle`: what the owner of an allocation does with it; `shared`: what it has in common with its task.
//! - `task`: what happens behind the owner's back.
//! - `link`: the way to the server; `framing`: messages on a stream.
//! - `error`: at which stage there was no relay, and why.

mod client;
mod error;
mod framing;
mod handle;
mod link;
mod shared;
mod task;

pub use client::{RelayRequest, TurnClient};
pub use error::{RelayError, RelaySendError, RelayStage};
pub use handle::{Relay, RelayTimes};
pub use nilas_turn::client::{Credentials, Failure, Families};
