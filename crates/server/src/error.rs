//! Why a server does not come up.

use core::fmt;
use core::net::SocketAddr;
use std::io;

use nilas_net::stream::CertificateError;

use crate::config::ConfigMistake;

/// Why [`Server::bind`](crate::Server::bind) failed. The text tells the user what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration names no address at all.
    NothingToServe,
    /// Another program has the port.
    PortInUse {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// This machine does not have the address.
    AddressNotAvailable {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let this user have the port.
    PermissionDenied {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The socket cannot be made for another reason.
    Socket {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The operating system gives no random numbers.
    NoRandomness,
    /// The configuration cannot be true.
    Config(ConfigMistake),
    /// The machine's addresses cannot be listed, and so not be kept from clients of the relay.
    Interfaces(io::Error),
    /// The certificate cannot be used.
    Certificate(CertificateError),
    /// A thread cannot be started, or has ended.
    Thread(io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToServe => {
                f.write_str("there is no address to serve on: name at least one")
            }
            Self::PortInUse { protocol, address } => write!(
                f,
                "{protocol} port {} on {} is in use: stop the program that has it, or choose another port",
                address.port(),
                address.ip()
            ),
            Self::AddressNotAvailable { protocol, address } => write!(
                f,
                "{protocol} address {} is not an address of this machine: choose one that is, or 0.0.0.0 or :: for all",
                address.ip()
            ),
            Self::PermissionDenied { protocol, address } => write!(
                f,
                "{protocol} port {} is reserved for the administrator: choose a port above 1023",
                address.port()
            ),
            Self::Socket {
                protocol,
                address,
                source,
            } => {
                write!(
                    f,
                    "{protocol} socket {address} cannot be opened: choose another address ({source})"
                )
            }
            Self::NoRandomness => {
                f.write_str("the operating system gives no random numbers: codes cannot be made")
            }
            Self::Config(mistake) => mistake.fmt(f),
            Self::Interfaces(error) => write!(
                f,
                "the addresses of this machine cannot be listed, so clients of the relay cannot be kept from them ({error})"
            ),
            Self::Certificate(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "a thread of the server cannot run ({error})"),
        }
    }
}

impl core::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Socket { source, .. } => Some(source),
            Self::Interfaces(error) | Self::Thread(error) => Some(error),
            Self::Config(mistake) => Some(mistake),
            Self::Certificate(error) => Some(error),
            _ => None,
        }
    }
}
