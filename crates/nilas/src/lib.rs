//! ICE for applications: find a path between two machines, whatever stands between them, and send
//! datagrams over it.
//!
//! An [`Agent`] is one end of a session. It gathers its addresses, exchanges them with the peer over a
//! channel of the application's choice, tries which pairs of addresses work, and gives a [`Connection`]:
//!
//! ```no_run
//! use nilas::signaling::{Meeting, Rendezvous};
//!
//! # async fn example() -> Result<(), nilas::Error> {
//! let rendezvous = Rendezvous::connect("ws://rendezvous.example:3480", Meeting::Create).await?;
//! println!("tell your peer: {}", rendezvous.code());
//! let config = nilas::Config::controlling().stun("stun:stun.example.org")?;
//! let mut connection = nilas::connect(config, rendezvous.sender(), rendezvous).await?;
//! connection.send(b"hello").await?;
//! let mut buffer = [0; 1500];
//! let length = connection.recv(&mut buffer).await?;
//! println!("{} bytes over {:?}", length, connection.selected_pair());
//! # Ok(())
//! # }
//! ```
//!
//! The protocol is RFC 8445 with trickling (RFC 8838), patience (RFC 8863) and consent (RFC 7675). It
//! lives in `nilas-ice`, without I/O; this crate is the driver that gives it sockets and time on tokio.
//!
//! # The rooms
//!
//! What an application holds:
//!
//! - `config`: [`Config`], what an agent is to be.
//! - `agent`: [`Agent`], and `exchange`: [`connect`], [`SignalSender`] and [`SignalReceiver`], how it talks to its peer.
//! - `connection`: [`Connection`], and `sender`: [`Sender`], the way of the data.
//! - `events`: [`Events`], what happens, as it happens.
//! - `endpoint`: [`Endpoint`], many agents on one engine, and `streams`: [`Streams`], several with one peer.
//! - `error`: [`Error`], what can go wrong and what to do.
//!
//! How it works inside: `driver` is the task that owns the engine. `session` is what the handles of an
//! agent share, `snapshot` how the agent stands, `signals` what is still to be told to the peer, `sockets`
//! which sockets and streams there are, `ready` which of them have something, `inbox` what was received.
//! `server` reads the servers of a configuration, `servers` keeps those of all agents, and `connector` opens
//! streams to them; `framer` puts around a datagram what a relay needs, with ids from `indication`.
//!
//! # The way of a datagram
//!
//! Sending reads the path that the engine publishes in a cell, and goes from the application's task
//! straight to the socket: no lock, no queue, no allocation; over a relay, with what that needs around it.
//! Receiving is the driver's: it reads many
//! datagrams with one system call, asks the engine whose each is, and appends the application's to the
//! inbox of its session, with one lock and one wake for all of them. The application takes all there are
//! by exchanging buffers.

mod agent;
mod config;
mod connection;
mod connector;
mod driver;
mod endpoint;
mod error;
mod events;
mod exchange;
mod framer;
mod inbox;
mod indication;
mod pool;
mod ready;
mod secret;
mod sender;
mod server;
mod servers;
mod session;
mod signals;
mod snapshot;
mod sockets;
mod streams;

pub use agent::Agent;
pub use config::{Config, Family};
pub use connection::Connection;
pub use endpoint::Endpoint;
pub use error::Error;
pub use events::{Events, Lagged};
pub use exchange::{SignalReceiver, SignalSender, connect};
pub use inbox::{Batch, Marked};
pub use nilas_ice as ice;
pub use nilas_ice::RecordingOptions;
pub use nilas_ice::{
    AddressPolicy, Candidate, CandidateType, Counters, Dscp, DscpError, Event, GatheringState, Mtu,
    NoPath, Parameters, PortRange, PortRangeError, RestartReason, Role, SelectedPair, State, Stats,
    TemporaryAddresses, Verdict,
};
pub use nilas_net::Ecn;
pub use nilas_net::creds;
pub use nilas_net::ice_servers::{self, IceServer, ServerUrl};
pub use nilas_net::signaling;
pub use nilas_net::stream::{ClientTls, Proxy};
pub use pool::Pool;
pub use sender::Sender;
pub use server::{ServerError, ServerErrorReason};
pub use streams::Streams;
