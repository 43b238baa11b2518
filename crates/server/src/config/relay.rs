//! What the relay is made of, and how much of it anybody may use.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

use ipnet::IpNet;

/// The relay (RFC 8656). Without an address to relay on there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayConfig {
    /// The addresses that relayed transport addresses are on, at most one of each family.
    pub addresses: Vec<RelayAddress>,
    /// The ports of relayed transport addresses. 49152 to 65535 (RFC 8656 section 7.2).
    pub ports: RangeInclusive<u16>,
    /// Networks that clients may reach although they are special, such as private ones, or are this machine's.
    pub allow_peers: Vec<IpNet>,
    /// Networks that clients may not reach, whatever else holds.
    pub deny_peers: Vec<IpNet>,
    /// Whether peers can be reached over TCP (RFC 6062). True.
    pub tcp: bool,
    /// Whether a client may go on from another address (RFC 8016). True.
    pub mobility: bool,
    /// The lifetime of an allocation whose client asks for none, or for less. Ten minutes (RFC 8656 section 6).
    pub default_lifetime: Duration,
    /// The longest lifetime of an allocation. An hour (RFC 8656 section 7.2).
    pub max_lifetime: Duration,
    /// How long a nonce is valid. Half an hour; at most an hour (RFC 8656 section 5).
    pub nonce_lifetime: Duration,
    /// Where clients are sent while this server drains, or always if [`redirect`](Self::redirect) says so: the
    /// first of their family.
    pub alternate_servers: Vec<AlternateServer>,
    /// Whether all clients are sent to an alternate server.
    pub redirect: bool,
    /// How much may be used.
    pub quotas: Quotas,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            ports: 49_152..=65_535,
            allow_peers: Vec::new(),
            deny_peers: Vec::new(),
            tcp: true,
            mobility: true,
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3_600),
            nonce_lifetime: Duration::from_secs(1_800),
            alternate_servers: Vec::new(),
            redirect: false,
            quotas: Quotas::default(),
        }
    }
}

/// An address that relayed transport addresses are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayAddress {
    /// The address of this machine that sockets are bound to. Never a wildcard.
    pub local: IpAddr,
    /// The address that peers see. Another than the local one where a NAT of one address to one stands before
    /// this machine, as at many cloud providers; the ports are the same.
    pub public: IpAddr,
}

impl RelayAddress {
    /// An address that peers see behind a NAT of one address to one; `local` is this machine's.
    #[must_use]
    pub const fn behind_nat(public: IpAddr, local: IpAddr) -> Self {
        Self { local, public }
    }
}

impl From<IpAddr> for RelayAddress {
    fn from(address: IpAddr) -> Self {
        Self {
            local: address,
            public: address,
        }
    }
}

/// A server to which clients can be sent (RFC 8489 section 10).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlternateServer {
    /// Its address.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub domain: Option<String>,
}

impl AlternateServer {
    /// A server at this address, with this name in its certificate.
    #[must_use]
    pub const fn new(address: SocketAddr, domain: Option<String>) -> Self {
        Self { address, domain }
    }
}

/// How much of the relay may be used. An allocation is counted until it is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// How many allocations a user may have at one time. 128.
    pub allocations_per_user: usize,
    /// How many allocations there may be at one time. 1,048,576; the ports are fewer.
    pub allocations: usize,
    /// Bytes of application data a second that pass for one user, in both directions together; more are dropped.
    pub user_bytes_per_second: Option<u64>,
    /// Bytes of application data a second that pass for all, in both directions together; more are dropped.
    pub total_bytes_per_second: Option<u64>,
    /// How many permissions a relayed transport address may have. 256.
    pub permissions: usize,
    /// How many channels a relayed transport address may have, at most 4,096. 256.
    pub channels: usize,
    /// How many connections to peers an allocation may have (RFC 6062). 64.
    pub connections: usize,
    /// An address without credentials gets 1,000 errors at once, and then one in each such interval; zero for as
    /// many as it likes. Five milliseconds. The challenge that every client begins with is one, so a load test
    /// from one address wants zero.
    pub error_interval: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            allocations_per_user: 128,
            allocations: 1 << 20,
            user_bytes_per_second: None,
            total_bytes_per_second: None,
            permissions: 256,
            channels: 256,
            connections: 64,
            error_interval: Duration::from_millis(5),
        }
    }
}
