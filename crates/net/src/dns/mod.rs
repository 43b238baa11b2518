//! From a `stun:` or `turn:` URI to the transport addresses of its servers, in the order to try them.
//!
//! STUN servers are found as RFC 8489 section 8.1 says (SRV, then A and AAAA), TURN servers as RFC 5928
//! says (S-NAPTR, then SRV, then A and AAAA). All first questions are asked at once, and once a host's
//! addresses are known, NAPTR and SRV have half a second more: many resolvers at home drop questions of
//! kinds that they do not know, and a server must not be found five seconds late because of that.
//!
//! # The rooms
//!
//! - `find`: the steps of both RFCs.
//! - `order`: who goes first, as functions of the records alone.
//! - `lookup`: the questions themselves, with their deadlines, through `hickory-resolver`.

mod find;
mod lookup;
mod order;

use std::fmt;
use std::net::SocketAddr;

pub use find::ServerResolver;

/// How a client talks with a STUN or TURN server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ServerTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
}

/// A server to try.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerAddress {
    /// How to talk with it.
    pub transport: ServerTransport,
    /// Where it is.
    pub address: SocketAddr,
    /// Whom its certificate must be for, where there is TLS or DTLS: the host of the URI, whatever names
    /// the DNS led through (RFC 5928 section 5).
    pub server_name: Option<String>,
}

/// Why a URI led to no server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DnsError {
    /// The name does not exist, or has no addresses.
    NotFound {
        /// The name.
        name: String,
    },
    /// No resolver answered in time.
    TimedOut {
        /// The name.
        name: String,
    },
    /// The resolver could not answer.
    Failed {
        /// The name.
        name: String,
        /// What the resolver says.
        why: String,
    },
    /// The host is not a name that the DNS can hold.
    Name {
        /// The name.
        name: String,
    },
    /// None of the transports that the URI allows is among those that the application supports.
    Transport,
    /// The URI names a transport that is neither `udp` nor `tcp`.
    UnknownTransport {
        /// Its name.
        name: String,
    },
    /// A `stuns:` URI with an IP address, which RFC 8489 section 8.1 forbids.
    SecureAddress,
}

impl ServerTransport {
    /// Whether the server shows a certificate.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Dtls)
    }
}

impl fmt::Display for ServerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        })
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name } => write!(
                f,
                "{name} has no address; check the spelling of the server's name"
            ),
            Self::TimedOut { name } => write!(
                f,
                "no DNS server answered for {name} in time; is this machine online?"
            ),
            Self::Failed { name, why } => write!(f, "the DNS failed for {name}: {why}"),
            Self::Name { name } => write!(f, "{name:?} cannot be a host's name"),
            Self::Transport => f.write_str("none of the transports of this URI can be used here"),
            Self::UnknownTransport { name } => write!(
                f,
                "the transport {name:?} is not known; use `udp` or `tcp`"
            ),
            Self::SecureAddress => f.write_str(
                "a `stuns:` URI needs a host name, for which the server's certificate can be checked",
            ),
        }
    }
}

impl std::error::Error for DnsError {}
