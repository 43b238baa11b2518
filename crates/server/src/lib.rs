//! A server for nilas: STUN Binding (RFC 8489) over UDP and TCP, and a rendezvous over WebSocket where two
//! peers that name the same code exchange descriptions and candidates. It never sees application data.
//!
//! ```no_run
//! # async fn example() -> Result<(), nilas_server::ServerError> {
//! use nilas_server::{Server, ServerConfig};
//!
//! let server = Server::bind(ServerConfig::default()).await?;
//! println!("{:?}", server.local_addresses());
//! server.run(std::future::pending()).await
//! # }
//! ```
//!
//! # The rooms
//!
//! | file | what lives there |
//! |---|---|
//! | `server` | [`Server`]: binds everything, runs it, stops it |
//! | `config` | [`ServerConfig`]: where to listen, who may use the relay, how much to allow |
//! | `settings` | the same as text: from a file in TOML, the environment and flags; with the feature `settings` |
//! | `relay` | the relay as a whole: its sockets, its cores, what they are to know about this machine |
//! | `worker` | the threads that relay, each with a core of `nilas-turn`; it has a table of its own |
//! | `ports` | the ports of relayed addresses, given out by the whole process |
//! | [`rendezvous`] | the rules of the rendezvous; pure, in virtual time |
//! | `guess_limit` | how fast codes can be guessed |
//! | `hub` | connects the rules to the WebSockets |
//! | `web` | HTTP: the WebSockets, and `/health` |
//! | `monitor`, `metrics` | the listener for operators: `/metrics` and `/health` |
//! | `admission` | how many connections there may be, in all and from one source |
//! | `source` | what counts as one source |
//! | `sockets` | binding, and what its errors mean |
//!
//! # What strangers can do
//!
//! Everyone may send to this server, so everything is bounded: the answer to a datagram by its size (no
//! SOFTWARE, no reason phrases, no long lists), connections by number, source and time, messages by size,
//! number and queue, wrong codes by source and in all. Nothing that a stranger sends allocates more than
//! those bounds, and no datagram allocates at all. Logs name no code, no password and no username fragment.

mod admission;
mod clock;
mod config;
mod counters;
mod error;
mod guess_limit;
mod hub;
mod metrics;
mod monitor;
mod ports;
mod relay;
pub mod rendezvous;
mod server;
#[cfg(feature = "settings")]
pub mod settings;
mod sockets;
mod source;
mod web;
mod worker;

pub use config::{
    Access, AlternateServer, CertificateFiles, ConfigMistake, DEFAULT_RENDEZVOUS_PORT,
    DEFAULT_STUN_PORT, DiscoveryAddresses, Quotas, Reason, RelayAddress, RelayConfig, Secret,
    ServerConfig, TokenKey, Tokens, User,
};
pub use counters::ServerStats;
pub use error::ServerError;
pub use ipnet::IpNet;
pub use server::{LocalAddresses, Server, ServerHandle};
