//! What goes into the engine and what comes out of it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use crate::candidate::Candidate;
use crate::dscp::Dscp;
use crate::event::{Event, SessionEvent};
use nilas_turn::Time;

use crate::ids::{AgentId, RequestId, SessionId, SocketId, StreamId};

/// Something that happened outside, for [`Engine::handle`](crate::Engine::handle).
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A datagram arrived.
    Datagram {
        /// The socket it arrived on.
        socket: SocketId,
        /// Who sent it.
        remote: SocketAddr,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// The answer to [`Command::Bind`] and [`Command::Listen`].
    Bound {
        /// The command's request.
        request: RequestId,
        /// The socket and the address it was bound to.
        result: Result<(SocketId, SocketAddr), BindError>,
    },
    /// The answer to [`Command::Resolve`] and [`Command::FindName`].
    Resolved {
        /// The command's request.
        request: RequestId,
        /// The addresses of the name, best first.
        result: Result<&'a [SocketAddr], ResolveError>,
    },
    /// The answer to [`Command::MapPort`]: the first within a few seconds, and one more whenever the gateway forwards
    /// another port, or none any more, until [`Command::UnmapPort`].
    PortMapped {
        /// The command's socket.
        socket: SocketId,
        /// The address outside, from which the gateway forwards to the socket.
        result: Result<SocketAddr, PortMappingError>,
    },
    /// The answer to [`Command::OpenStream`] and [`Command::Connect`].
    StreamOpened {
        /// The command's request.
        request: RequestId,
        /// The connection, or why there is none.
        result: Result<StreamId, StreamError>,
    },
    /// Somebody has connected to a socket that listens. Where the connection is not wanted, the command to close it
    /// follows.
    StreamAccepted {
        /// The socket of [`Command::Listen`].
        socket: SocketId,
        /// The connection.
        stream: StreamId,
        /// Who has connected.
        remote: SocketAddr,
    },
    /// Bytes came on a stream; of a DTLS connection, one datagram. Answered by [`Handled::Stream`]: what
    /// was not taken is given again, with what comes after it.
    StreamBytes {
        /// The stream.
        stream: StreamId,
        /// Everything that came and was not taken yet.
        bytes: &'a [u8],
    },
    /// A stream was closed by the other end, or lost. Not for those that the engine had closed.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// The operating system refused to send a datagram.
    SendError {
        /// The socket it was to leave from.
        socket: SocketId,
        /// Where it was to go.
        remote: SocketAddr,
        /// Why not.
        error: SendError,
    },
    /// The addresses of this machine: all of them, as they are now.
    Interfaces(&'a [Interface]),
}

/// What became of an input.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The engine has taken it in.
    Consumed,
    /// It is application data for a session.
    Application(Application),
    /// Of the bytes of a stream so many were taken: none while a message is incomplete.
    Stream {
        /// Bytes to take away from the front.
        taken: usize,
        /// The application data among them.
        application: Option<Application>,
    },
    /// It belongs to nobody here, or could not be authenticated. It changed nothing but a counter.
    NotOurs,
}

/// Application data for a session: a range of the caller's own buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The session's agent.
    pub agent: AgentId,
    /// The component of the data stream, 1 for the first.
    pub component: u16,
    /// Where in the payload the data is.
    pub range: Range<usize>,
}

/// What the engine wants, from [`Engine::poll`](crate::Engine::poll).
#[must_use]
#[derive(Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, by value: a box would be an allocation"
)]
pub enum Output {
    /// Send this datagram; its bytes are in the caller's buffer.
    Transmit(Transmit),
    /// Write this message to a stream; its bytes are in the caller's buffer. What a full stream cannot take
    /// whole is dropped, as a full socket drops a datagram.
    StreamTransmit(StreamTransmit),
    /// Tell the agent's owner.
    Event(AgentId, Event),
    /// Tell the session's owner. It follows what its agents tell.
    SessionEvent(SessionId, SessionEvent),
    /// Do this, and answer with an [`Input`].
    Command(Command),
    /// Nothing more for now. Call again after the next input, or at this time at the latest.
    Idle(Option<Time>),
}

/// A datagram to send: the first `size` bytes of the buffer given to `poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// Where to.
    pub destination: SocketAddr,
    /// The length of the datagram in bytes.
    pub size: usize,
    /// How to mark it: [`AgentConfig::dscp`](crate::AgentConfig::dscp) of its agent.
    pub dscp: Dscp,
}

/// A message to write to a stream: the first `size` bytes of the buffer given to `poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamTransmit {
    /// The stream.
    pub stream: StreamId,
    /// The length of the message in bytes.
    pub size: usize,
}

/// Something only the outside can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Bind a UDP socket to this address (port 0: any). Answered by [`Input::Bound`].
    Bind {
        /// To be repeated in the answer.
        request: RequestId,
        /// The local address to bind.
        address: SocketAddr,
    },
    /// Listen for TCP connections on this address (port 0: any). The port is shared with connections that
    /// [`Connect`](Self::Connect) opens from it (`SO_REUSEADDR`, and `SO_REUSEPORT` where there is one). Answered by
    /// [`Input::Bound`].
    Listen {
        /// To be repeated in the answer.
        request: RequestId,
        /// The local address to bind.
        address: SocketAddr,
    },
    /// Open a TCP connection to a candidate of the peer, or to a server that says what it sees of a port that listens.
    /// Answered by [`Input::StreamOpened`], after ten seconds at the latest.
    Connect {
        /// To be repeated in the answer.
        request: RequestId,
        /// The local address to connect from: one that listens, or with port 0 any port.
        local: SocketAddr,
        /// The address of the peer or the server.
        remote: SocketAddr,
    },
    /// Close a socket that nobody needs any more, whether bound or listening. Not answered.
    CloseSocket(SocketId),
    /// Have the network's gateway forward a port to this socket until [`UnmapPort`](Self::UnmapPort): by PCP (RFC 6887),
    /// NAT-PMP (RFC 6886) or UPnP-IGD, whichever it knows. Answered by [`Input::PortMapped`].
    MapPort {
        /// The socket.
        socket: SocketId,
        /// The address it is bound to.
        address: SocketAddr,
    },
    /// Give back what the gateway forwards to a socket, and ask for it no more. Not answered.
    UnmapPort(SocketId),
    /// Find the addresses of a host name. Answered by [`Input::Resolved`].
    ///
    /// A machine that has IPv6 only is asked for `ipv4only.arpa`, too: its IPv6 addresses, if any, tell how IPv4 is
    /// reached through the network's translator (RFC 7050). Whoever resolves passes on what the network's DNS says.
    Resolve {
        /// To be repeated in the answer.
        request: RequestId,
        /// The host name.
        name: String,
        /// The port, for the addresses of the answer.
        port: u16,
    },
    /// Find the address of a name on the link, by multicast DNS (RFC 6762) and nothing else: it is the peer's. Answered
    /// by [`Input::Resolved`] within a few seconds.
    FindName {
        /// To be repeated in the answer.
        request: RequestId,
        /// The name, which ends in `.local`.
        name: String,
        /// The port, for the address of the answer.
        port: u16,
    },
    /// Answer for a name on the link, by multicast DNS (RFC 6762): whoever asks there is told this address, on the
    /// interface that has it. No probing: the name is random, and nobody else's. A name that is answered for already stays
    /// as it is. Not answered: the peer is told the name whatever comes of it.
    RegisterName {
        /// The name, which ends in `.local`.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Answer for a name no more, and say so on the link. Not answered.
    UnregisterName {
        /// The name.
        name: String,
    },
    /// Open a connection to a TURN server, on whichever of its addresses answers first. Answered by
    /// [`Input::StreamOpened`], after at most the rim's deadlines for each stage.
    OpenStream {
        /// To be repeated in the answer.
        request: RequestId,
        /// What kind of connection.
        transport: StreamTransport,
        /// The server's host name or address, which its certificate must name.
        host: String,
        /// Its port.
        port: u16,
        /// Its address, where it is known already: after a redirection.
        address: Option<SocketAddr>,
    },
    /// Close a stream that nobody needs any more. What was written to it is still to leave. Not answered.
    CloseStream(StreamId),
}

/// The kind of a connection to a TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamTransport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP: each message is a datagram.
    Dtls,
}

/// A network interface and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The name the operating system gives it.
    pub name: String,
    /// Its index, used as the scope of link-local IPv6 addresses.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What it costs to send there, from 0 to 999, as libwebrtc's `network-cost` has it: 0 for wired networks, 10
    /// for wireless ones, 900 for cellular ones, 50 where it is not known. It is told to the peer and counts
    /// when a path is [selected](crate::selection).
    pub cost: u16,
    /// Those of them that are temporary, so that nobody can follow the machine by its address (RFC 8981).
    pub temporary: Vec<IpAddr>,
    /// Those of them that are deprecated: what uses them may go on, and nothing new should begin (RFC 4862).
    pub deprecated: Vec<IpAddr>,
    /// Whether the system's default route goes by it, for one of the families of its addresses.
    pub default_route: bool,
}

/// Why a socket could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// The port is taken.
    AddressInUse,
    /// This machine does not have the address.
    AddressNotAvailable,
    /// The operating system does not permit it.
    PermissionDenied,
    /// Something else, such as too many open files.
    Other,
}

/// Why the network's gateway forwards no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMappingError {
    /// The network has no gateway, or it could not be found.
    NoGateway,
    /// Nobody answered in time: the gateway knows no such protocol, or does not want to.
    NoAnswer,
    /// The gateway does not permit it, or not so many ports.
    Refused,
    /// The gateway has no address of its own yet, or one that nobody can send to.
    Unusable,
    /// Something else.
    Other,
}

impl fmt::Display for PortMappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoGateway => "no gateway of this network is known",
            Self::NoAnswer => "the gateway did not answer to PCP, NAT-PMP or UPnP",
            Self::Refused => "the gateway refuses to forward a port",
            Self::Unusable => "the gateway has no address that can be reached",
            Self::Other => "the gateway failed to forward a port",
        })
    }
}

impl core::error::Error for PortMappingError {}

/// Why a name could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no such name, or it has no address.
    NotFound,
    /// Nobody answered in time.
    TimedOut,
    /// Something else.
    Other,
}

/// Why there is no connection to a server, by the stage that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The name has no address.
    Unresolved,
    /// The server refused the connection, or no route leads there.
    Refused,
    /// The server did not answer in time.
    TimedOut,
    /// The proxy refused or failed.
    Proxy,
    /// The TLS or DTLS handshake failed: the certificate is not trusted, or the server speaks something
    /// else.
    Handshake,
    /// The driver has no such connections, or something else.
    Other,
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no route to the destination.
    Unreachable,
    /// A firewall of this machine forbids it.
    PermissionDenied,
    /// The datagram is too large for the path.
    TooLarge,
    /// Something else.
    Other,
}

/// The pair that carries an agent's data, as both ends are known to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelectedPair {
    /// The local candidate, as the pair's mapped address names it (RFC 8445 section 7.2.5.3.2).
    pub local: Candidate,
    /// The remote candidate.
    pub remote: Candidate,
    /// The address of the local socket: the local candidate's base.
    pub base: SocketAddr,
    /// The round-trip time of the latest check, if one was answered at its first transmission.
    pub round_trip: Option<core::time::Duration>,
    /// Whether it was nominated (RFC 8445 section 8.1.1); data may flow before that.
    pub nominated: bool,
}
