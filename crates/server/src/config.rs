//! Where a server listens and how much it allows.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use crate::rendezvous::RendezvousConfig;

/// RFC 8489 section 18.6: the port of STUN over UDP and TCP.
pub const DEFAULT_STUN_PORT: u16 = 3478;
/// The port of the rendezvous, next to STUN's.
pub const DEFAULT_RENDEZVOUS_PORT: u16 = 3480;

/// What a server is to be. By default it serves everything on every address of the machine.
///
/// A port of 0 is any free port; [`Server::local_addresses`](crate::Server::local_addresses) tells which.
/// An IPv6 address serves IPv6 only, so that IPv4 gets a socket of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Addresses for STUN over UDP.
    pub stun_udp: Vec<SocketAddr>,
    /// Addresses for STUN over TCP.
    pub stun_tcp: Vec<SocketAddr>,
    /// Addresses for HTTP: the rendezvous and `/health`.
    pub rendezvous: Vec<SocketAddr>,
    /// The most connections of STUN over TCP. 1,024.
    pub max_stun_connections: usize,
    /// The most connections of STUN over TCP from one IPv4 address, or one IPv6 network of 64 bits. 32.
    pub max_stun_connections_per_source: usize,
    /// How long a STUN connection may be silent. Two minutes: only the client knows how long it needs the
    /// mapping that the connection keeps open (RFC 8489 section 6.2.2).
    pub stun_idle_time: Duration,
    /// How long one STUN message may take from its first byte to its last, in either direction. Ten seconds.
    pub stun_message_time: Duration,
    /// What the rendezvous allows.
    pub rendezvous_limits: RendezvousConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let all = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        Self::on(&all, DEFAULT_STUN_PORT, DEFAULT_RENDEZVOUS_PORT)
    }
}

impl ServerConfig {
    /// A server on these addresses, with the same port for STUN over UDP and TCP.
    pub fn on(addresses: &[IpAddr], stun_port: u16, rendezvous_port: u16) -> Self {
        let with = |port| {
            addresses
                .iter()
                .map(|address| SocketAddr::new(*address, port))
                .collect::<Vec<_>>()
        };
        Self {
            stun_udp: with(stun_port),
            stun_tcp: with(stun_port),
            rendezvous: with(rendezvous_port),
            max_stun_connections: 1024,
            max_stun_connections_per_source: 32,
            stun_idle_time: Duration::from_secs(120),
            stun_message_time: Duration::from_secs(10),
            rendezvous_limits: RendezvousConfig::default(),
        }
    }

    /// A server for this machine only, on free ports.
    pub fn loopback() -> Self {
        Self::on(
            &[
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ],
            0,
            0,
        )
    }
}
