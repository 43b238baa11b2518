//! The real network for nilas: what the sans-I/O crates leave out.
//!
//! The engine of `nilas-ice` names no socket, no clock and no system. This crate is where its commands
//! meet the operating system, one small piece for each thing that only the outside can do; the driver in
//! the crate `nilas` puts them together.
//!
//! # The rooms
//!
//! - `socket`: UDP sockets that send and receive many datagrams per system call, and what their errors
//!   mean to the engine; `traffic_class`: how datagrams are marked.
//! - `interfaces`: the machine's addresses; `interface_watch`: when they change.
//! - `resolve`: host names, through the operating system; [`dns`]: the servers behind a `stun:` or `turn:` URI.
//! - [`ice_servers`]: lists of servers in the shapes users hold them; [`creds`]: credentials that expire.
//! - [`stream`]: TCP, TLS and DTLS to a server, directly or through a proxy, and the server's end of them.
//! - [`relay`]: a TURN client: a relayed address on somebody's server, and data through it.
//! - `clock` and `seed`: time and randomness; `dial`: a TCP connection to a host with several addresses.
//! - [`mdns`]: names of candidates that hide an address (RFC 6762).
//! - `peer_tcp`: TCP connections to the peer itself (RFC 6544).
//! - `port_mapping`: ports that the network's gateway forwards (RFC 6886, RFC 6887, UPnP-IGD).
//! - [`signaling`]: how peers find each other before any path between them exists. Client and server
//!   share its messages.

mod clock;
pub mod creds;
mod dial;
pub mod dns;
pub mod ice_servers;
mod interface_watch;
mod interfaces;
pub mod mdns;
mod peer_tcp;
mod port_mapping;
pub mod relay;
mod resolve;
mod seed;
pub mod signaling;
mod socket;
pub mod stream;
mod traffic_class;
mod udp_state;
mod watched;

pub use clock::{Clock, Ticks};
pub use interface_watch::InterfaceWatch;
pub use interfaces::{interfaces, own_addresses};
pub use peer_tcp::{connect_from, listen_shared};
pub use port_mapping::{Gateways, PortMapping};
pub use resolve::resolve;
pub use seed::os_seed;
pub use socket::{ReceiveBatch, UdpSocket, bind_error, is_reported, send_error};
pub use traffic_class::{Ecn, TrafficClass, send_marked};
pub use udp_state::{tell_own_address, udp_state};
pub use watched::Watched;
