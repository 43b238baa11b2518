//! What goes into the engine and what comes out of it.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use crate::candidate::Candidate;
use crate::event::Event;
use crate::ids::{AgentId, RequestId, SocketId};
use crate::time::Time;

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
    /// The answer to [`Command::Bind`].
    Bound {
        /// The command's request.
        request: RequestId,
        /// The socket and the address it was bound to.
        result: Result<(SocketId, SocketAddr), BindError>,
    },
    /// The answer to [`Command::Resolve`].
    Resolved {
        /// The command's request.
        request: RequestId,
        /// The addresses of the name, best first.
        result: Result<&'a [SocketAddr], ResolveError>,
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
    /// It is application data for a session: the named range of the caller's own buffer.
    Application {
        /// The session's agent.
        agent: AgentId,
        /// The component of the data stream, 1 for the first.
        component: u16,
        /// Where in the payload the data is.
        range: Range<usize>,
    },
    /// It belongs to nobody here, or could not be authenticated. It changed nothing but a counter.
    NotOurs,
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
    /// Tell the agent's owner.
    Event(AgentId, Event),
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
    /// Close a socket that nobody needs any more. Not answered.
    CloseSocket(SocketId),
    /// Find the addresses of a host name. Answered by [`Input::Resolved`].
    Resolve {
        /// To be repeated in the answer.
        request: RequestId,
        /// The host name.
        name: String,
        /// The port, for the addresses of the answer.
        port: u16,
    },
}

/// A network interface and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name the operating system gives it.
    pub name: String,
    /// Its index, used as the scope of link-local IPv6 addresses.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
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
