//! What stream to open, and how long each stage may take.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Proxy;

/// A stream to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamRequest {
    /// The server.
    pub remote: StreamRemote,
    /// The local address to open it from; the operating system chooses when there is none. Its family
    /// must be that of the server, or of the proxy if there is one.
    pub local: Option<IpAddr>,
    /// What the stream is.
    pub transport: StreamTransport,
    /// The proxy to go through. DTLS goes through none.
    pub proxy: Option<Proxy>,
}

/// The server at the other end of a stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StreamRemote {
    /// Its transport address.
    Address(SocketAddr),
    /// Its host name, for a proxy to resolve; without a proxy names are resolved beforehand.
    Name {
        /// The host name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// What a stream is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StreamTransport {
    /// Plain TCP.
    Tcp,
    /// TLS 1.2 or 1.3 over TCP.
    Tls {
        /// The DNS name or IP address that the server's certificate must be for.
        server_name: String,
    },
    /// DTLS 1.2 or 1.3 over UDP: a stream of datagrams.
    Dtls {
        /// The DNS name or IP address that the server's certificate must be for.
        server_name: String,
    },
}

/// The longest that each stage of opening a stream may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamDeadlines {
    /// To the TCP connection, including the resolution of a proxy's name.
    pub connect: Duration,
    /// To the proxy's consent.
    pub proxy: Duration,
    /// To the end of the TLS or DTLS handshake.
    pub handshake: Duration,
}

impl StreamRequest {
    /// A stream to an address, from any local address, without a proxy.
    #[must_use]
    pub const fn new(remote: SocketAddr, transport: StreamTransport) -> Self {
        Self {
            remote: StreamRemote::Address(remote),
            local: None,
            transport,
            proxy: None,
        }
    }
}

impl Default for StreamDeadlines {
    /// Five seconds for each stage.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            proxy: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
        }
    }
}

impl fmt::Display for StreamRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
