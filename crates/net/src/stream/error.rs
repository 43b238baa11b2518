//! Why a stream did not open.

use std::fmt;
use std::io;

use super::ProxyRefusal;

/// A stream that did not open: where it was lost, to whom, and what that means.
#[derive(Debug)]
pub struct StreamError {
    /// The stage that failed.
    pub stage: StreamStage,
    /// The other side of that stage: the server or the proxy, as `host:port`.
    pub peer: String,
    /// What happened.
    pub cause: StreamCause,
}

/// A stage of opening a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StreamStage {
    /// The TCP connection, or for DTLS the UDP socket.
    Connect,
    /// The exchange with a proxy.
    Proxy,
    /// The TLS or DTLS handshake.
    Handshake,
}

/// What ended a stage.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamCause {
    /// No answer within the stage's deadline.
    TimedOut,
    /// The operating system's error.
    Io(io::Error),
    /// The proxy said no, or is none.
    Proxy(ProxyRefusal),
    /// The server's certificate is not trusted, or is for another name.
    Certificate(String),
    /// The two sides have no TLS or DTLS in common, or one of them broke it off.
    Protocol(String),
    /// The name that the certificate should be for is neither a DNS name nor an IP address.
    ServerName(String),
    /// A host name without a proxy that would resolve it.
    NameWithoutProxy,
    /// DTLS through a proxy: neither kind of proxy carries UDP here.
    DatagramsThroughProxy,
}

impl StreamError {
    pub(super) const fn new(stage: StreamStage, peer: String, cause: StreamCause) -> Self {
        Self { stage, peer, cause }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, peer, cause } = self;
        match stage {
            StreamStage::Connect => write!(f, "cannot connect to {peer}: "),
            StreamStage::Proxy => write!(f, "the proxy {peer} did not open the way: "),
            StreamStage::Handshake => write!(f, "no secure connection with {peer}: "),
        }?;
        match (stage, cause) {
            (StreamStage::Connect, StreamCause::TimedOut) => f.write_str(
                "no answer in time; the server is down, or a firewall drops packets to this port",
            ),
            (StreamStage::Connect, StreamCause::Io(error))
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                f.write_str("it refused; nothing listens on this port")
            }
            (StreamStage::Proxy, StreamCause::TimedOut) => f.write_str(
                "it connected and then said nothing in time; is it a proxy of this kind?",
            ),
            (StreamStage::Handshake, StreamCause::TimedOut) => f.write_str(
                "no answer in time; does the server speak TLS (or DTLS) on this port?",
            ),
            (StreamStage::Handshake, StreamCause::Io(error))
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                f.write_str("it closed the connection; does it speak TLS on this port?")
            }
            (_, StreamCause::Io(error)) => write!(f, "{error}"),
            (_, StreamCause::Proxy(refusal)) => write!(f, "{refusal}"),
            (_, StreamCause::Certificate(why)) => write!(
                f,
                "its certificate is refused: {why}; trust its issuer in the system's roots or in the file that SSL_CERT_FILE names"
            ),
            (_, StreamCause::Protocol(why)) => write!(f, "{why}"),
            (_, StreamCause::ServerName(name)) => {
                write!(f, "{name:?} is neither a DNS name nor an IP address")
            }
            (_, StreamCause::NameWithoutProxy) => {
                f.write_str("a host name is resolved before, or by a proxy, and there is none")
            }
            (_, StreamCause::DatagramsThroughProxy) => f.write_str(
                "DTLS runs over UDP, which does not go through the proxy; use TLS (`?transport=tcp`)",
            ),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            StreamCause::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for StreamStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Handshake => "handshake",
        })
    }
}
