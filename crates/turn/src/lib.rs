//! TURN (RFC 8656) as two state machines without I/O: the client's allocation, and the relay server.
//!
//! Bytes and the time go in; datagrams, commands, events and the next deadline come out. There is no socket, clock,
//! thread or global in here, and all randomness comes from one seed: the same inputs give the same outputs.
//!
//! | room | what lives there |
//! |---|---|
//! | [`client`] | one allocation on somebody's server, and the peers it talks to |
//! | [`server`] | a server for many clients: allocations, permissions, channels, quotas, the rule on peers |
//! | `channel_data` | the one message that is not STUN (RFC 8656 section 12.4) |
//! | `time`, `arena` | the small things |
//!
//! The feature `server`, on by default, brings the server and what it stands on: ciphers for tokens and tickets,
//! networks for the rule on peers. A client does without.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
mod arena;
mod channel_data;
pub mod client;
#[cfg(feature = "server")]
pub mod server;
mod time;

pub use channel_data::{
    ACCEPTED_CHANNEL_NUMBERS, CHANNEL_DATA_HEADER, CHANNEL_NUMBERS, ChannelData,
};
pub use time::Time;
