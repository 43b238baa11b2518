//! Why there is no relay, or data did not go through one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nilas_turn::client::Failure;

use crate::dns::{DnsError, ServerAddress};
use crate::stream::{RootsError, StreamError, StreamStage};

/// Where on the way to a relay something was lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RelayStage {
    /// Finding the server's address.
    Dns,
    /// The connection, or for UDP the socket and the first sign of life.
    Connect,
    /// The exchange with a proxy.
    Proxy,
    /// The TLS or DTLS handshake.
    Handshake,
    /// The allocation: credentials, quotas, redirections.
    Allocate,
    /// The allocation was there, and ended.
    Relay,
}

/// Why there is no relay.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RelayError {
    /// The URI leads to no server.
    Dns(DnsError),
    /// No server could ever be trusted: there are no root certificates.
    Roots(Arc<RootsError>),
    /// The stream to the server did not open.
    Stream(Arc<StreamError>),
    /// The UDP socket cannot be had, or the network says that nobody is there.
    Socket {
        /// The server.
        server: SocketAddr,
        /// The operating system's error.
        error: Arc<io::Error>,
    },
    /// The server gave no allocation.
    Allocate {
        /// The server.
        server: SocketAddr,
        /// Why.
        failure: Failure,
    },
    /// The server did not answer in time.
    TimedOut {
        /// The server.
        server: SocketAddr,
    },
    /// The server sends its clients around in a circle, or too far (RFC 8489 section 10).
    Redirected {
        /// The server that redirected last.
        server: SocketAddr,
        /// Where to.
        to: SocketAddr,
    },
    /// The stream to the server broke, and could not be opened again.
    Lost {
        /// The server.
        server: SocketAddr,
        /// What happened to the stream.
        why: String,
    },
    /// The allocation was given back.
    Released,
}

/// Why data, or a request about a peer, did not go out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RelaySendError {
    /// The server refuses to relay to this peer, with this STUN error code.
    PeerRefused {
        /// The peer.
        peer: SocketAddr,
        /// The code: 403 where its rules forbid it, 443 for another family than the allocation's.
        code: u16,
    },
    /// There is no relayed address of the peer's family.
    Family {
        /// The peer.
        peer: SocketAddr,
    },
    /// There is no channel to this peer, or not any more.
    NoChannel {
        /// The peer.
        peer: SocketAddr,
    },
    /// There are too many peers on this allocation.
    TooManyPeers,
    /// The data does not fit a message.
    TooLong,
    /// The socket or stream can take no more now.
    Full,
    /// The server did not answer in time.
    TimedOut,
    /// The operating system's error.
    Io(Arc<io::Error>),
    /// There is no allocation at the moment; another is being made.
    Absent,
    /// There is none any more.
    Ended(RelayError),
}

impl RelayError {
    /// The stage at which it failed.
    #[must_use]
    pub fn stage(&self) -> RelayStage {
        match self {
            Self::Dns(_) => RelayStage::Dns,
            Self::Roots(_) => RelayStage::Handshake,
            Self::Stream(error) => match error.stage {
                StreamStage::Connect => RelayStage::Connect,
                StreamStage::Proxy => RelayStage::Proxy,
                StreamStage::Handshake => RelayStage::Handshake,
            },
            Self::Socket { .. } => RelayStage::Connect,
            Self::Allocate { .. } | Self::TimedOut { .. } | Self::Redirected { .. } => {
                RelayStage::Allocate
            }
            Self::Lost { .. } | Self::Released => RelayStage::Relay,
        }
    }

    pub(super) fn socket(server: &ServerAddress, error: io::Error) -> Self {
        Self::Socket {
            server: server.address,
            error: Arc::new(error),
        }
    }
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => error.fmt(f),
            Self::Roots(error) => error.fmt(f),
            Self::Stream(error) => error.fmt(f),
            Self::Socket { server, error } if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "{server} is there, and no server listens on this UDP port"
                )
            }
            Self::Socket { server, error } => write!(f, "no way to {server} by UDP: {error}"),
            Self::Allocate { server, failure } => allocate_text(f, *server, failure),
            Self::TimedOut { server } => write!(
                f,
                "{server} did not answer in time; it is down, or a firewall drops packets to this port"
            ),
            Self::Redirected { server, to } => write!(
                f,
                "{server} redirects to {to}, which was asked before or is one server too far; this is for its operator to mend"
            ),
            Self::Lost { server, why } => {
                write!(
                    f,
                    "the connection to {server} broke ({why}) and did not come back"
                )
            }
            Self::Released => f.write_str("the allocation was given back"),
        }
    }
}

fn allocate_text(f: &mut fmt::Formatter<'_>, server: SocketAddr, failure: &Failure) -> fmt::Result {
    match failure {
        Failure::Timeout => fmt::Display::fmt(&RelayError::TimedOut { server }, f),
        Failure::Unauthorized => write!(
            f,
            "{server} refused the user name or password; check both, and whether they have expired"
        ),
        Failure::Tampered => write!(
            f,
            "the answers of {server} are not authentic: somebody on the path changes them, or it is not the server it seems"
        ),
        Failure::Refused { code, reason } => {
            write!(f, "{server} refused with {code} {reason}")?;
            // RFC 8656 sections 7.2 and 19.
            match code {
                403 => f.write_str("; this user, or this address, may not have a relay there"),
                440 => f.write_str("; it has no relay address of this family"),
                442 => f.write_str("; it does not relay UDP"),
                486 => f.write_str("; this user has as many allocations as the server lets him"),
                508 => f.write_str("; it is full"),
                _ => Ok(()),
            }
        }
        other => write!(f, "{server}: {other}"),
    }
}

impl std::error::Error for RelayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dns(error) => Some(error),
            Self::Roots(error) => Some(error.as_ref()),
            Self::Stream(error) => Some(error.as_ref()),
            Self::Socket { error, .. } => Some(error.as_ref()),
            Self::Allocate { failure, .. } => Some(failure),
            _ => None,
        }
    }
}

impl fmt::Display for RelaySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerRefused { peer, code: 403 } => {
                write!(f, "the server's rules forbid relaying to {peer} (403)")
            }
            Self::PeerRefused { peer, code } => {
                write!(f, "the server refuses to relay to {peer} ({code})")
            }
            Self::Family { peer } => {
                write!(f, "the relay has no address of the family of {peer}")
            }
            Self::NoChannel { peer } => write!(f, "there is no channel to {peer}"),
            Self::TooManyPeers => f.write_str("this relay has too many peers"),
            Self::TooLong => f.write_str("the data is longer than a message holds"),
            Self::Full => f.write_str("the connection to the server can take no more now"),
            Self::TimedOut => f.write_str("the server did not answer in time"),
            Self::Io(error) => write!(f, "sending to the server failed: {error}"),
            Self::Absent => f.write_str("the allocation was lost, and another is being made"),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RelaySendError {}

impl fmt::Display for RelayStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Handshake => "handshake",
            Self::Allocate => "allocate",
            Self::Relay => "relay",
        })
    }
}
