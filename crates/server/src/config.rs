//! Where a server listens and how much it allows.
//!
//! `access` holds who may use the relay, `relay` what the relay is made of, `check` what cannot be true.

mod access;
mod check;
mod relay;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::num::NonZeroU8;
use core::time::Duration;
use std::path::PathBuf;

pub use self::access::{Access, Secret, TokenKey, Tokens, User};
pub use self::check::{ConfigMistake, Reason};
pub use self::relay::{AlternateServer, Quotas, RelayAddress, RelayConfig};
use crate::rendezvous::RendezvousConfig;

/// RFC 8489 section 18.6: the port of STUN over UDP and TCP.
pub const DEFAULT_STUN_PORT: u16 = 3478;
/// The port of the rendezvous, next to STUN's.
pub const DEFAULT_RENDEZVOUS_PORT: u16 = 3480;

/// What a server is to be. By default it serves STUN and the rendezvous on every address of the machine, and
/// relays nothing.
///
/// A port of 0 is any free port; [`Server::local_addresses`](crate::Server::local_addresses) tells which.
/// An IPv6 address serves IPv6 only, so that IPv4 gets a socket of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Addresses for STUN and TURN over UDP.
    pub stun_udp: Vec<SocketAddr>,
    /// Addresses for STUN and TURN over TCP. A client that begins with a TLS handshake is served as on
    /// [`tls`](Self::tls), if there is a certificate.
    pub stun_tcp: Vec<SocketAddr>,
    /// Addresses for TLS over TCP, where STUN, TURN and the rendezvous over HTTPS share the port, and for DTLS over
    /// UDP. They need a [`certificate`](Self::certificate).
    pub tls: Vec<SocketAddr>,
    /// The name of this server in the DNS, as clients call it. The certificate is for it.
    pub public_name: Option<String>,
    /// The certificate of TLS and DTLS.
    pub certificate: Option<CertificateFiles>,
    /// Addresses for HTTP: the rendezvous and `/health`.
    pub rendezvous: Vec<SocketAddr>,
    /// The address for metrics and `/health`, for operators only.
    pub metrics: Option<SocketAddr>,
    /// A second address of this machine, and a second port, for NAT behavior discovery (RFC 5780).
    pub discovery: Option<DiscoveryAddresses>,
    /// How many threads relay, each with sockets of its own. As many as there are cores.
    pub workers: Option<NonZeroU8>,
    /// The most connections over TCP and TLS, and sessions over DTLS, of STUN and TURN. 1,024.
    pub max_stun_connections: usize,
    /// The most of them from one IPv4 address, or one IPv6 network of 64 bits. 32.
    pub max_stun_connections_per_source: usize,
    /// How long a STUN connection may be silent, if it has no allocation. Two minutes: only the client knows how
    /// long it needs the mapping that the connection keeps open (RFC 8489 section 6.2.2).
    pub stun_idle_time: Duration,
    /// How long one STUN message may take from its first byte to its last, in either direction, and a handshake of
    /// TLS or DTLS as a whole. Ten seconds.
    pub stun_message_time: Duration,
    /// What the rendezvous allows.
    pub rendezvous_limits: RendezvousConfig,
    /// Who may use the relay.
    pub access: Access,
    /// The relay.
    pub relay: RelayConfig,
    /// What SOFTWARE says in answers, if anything: it tells attackers, too.
    pub software: Option<String>,
    /// How long a server that drains waits for its last allocation. Ten minutes.
    pub drain_time: Duration,
}

/// Where a certificate and its key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFiles {
    /// The certificate chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// A chain and its key.
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
        }
    }
}

/// Two addresses and two ports of each over UDP (RFC 5780 section 6). All four combinations are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryAddresses {
    /// The first address and port: one of [`ServerConfig::stun_udp`], no wildcard.
    pub primary: SocketAddr,
    /// The other address, of the same family, and the other port.
    pub alternate: SocketAddr,
}

impl DiscoveryAddresses {
    /// Both addresses.
    #[must_use]
    pub const fn new(primary: SocketAddr, alternate: SocketAddr) -> Self {
        Self { primary, alternate }
    }
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
            tls: Vec::new(),
            public_name: None,
            certificate: None,
            rendezvous: with(rendezvous_port),
            metrics: None,
            discovery: None,
            workers: None,
            max_stun_connections: 1024,
            max_stun_connections_per_source: 32,
            stun_idle_time: Duration::from_secs(120),
            stun_message_time: Duration::from_secs(10),
            rendezvous_limits: RendezvousConfig::default(),
            access: Access::default(),
            relay: RelayConfig::default(),
            software: None,
            drain_time: Duration::from_secs(600),
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

    /// The part of this configuration that the relay's cores keep, without what only a running server knows: the
    /// addresses of this machine ([`PeerRule::host`](nilas_turn::server::PeerRule::host)), the listeners of NAT
    /// behavior discovery, and whether datagrams can be sent with the DF bit.
    ///
    /// # Errors
    /// The first of the mistakes that [`check`](Self::check) finds in it.
    pub fn turn(&self) -> Result<nilas_turn::server::ServerConfig, ConfigMistake> {
        check::turn(self).map_err(|mut mistakes| mistakes.swap_remove(0))
    }

    /// Everything that cannot be true of this configuration by itself: a second realm, a user twice, ports that
    /// are none. What only the machine can tell, such as a port in use, [`Server::bind`](crate::Server::bind)
    /// does.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigMistake> {
        check::check(self)
    }

    /// What differs from `new` and cannot change while the server runs, by the names of the settings.
    #[must_use]
    pub fn fixed_differences(&self, new: &Self) -> Vec<&'static str> {
        check::fixed_differences(self, new)
    }
}
