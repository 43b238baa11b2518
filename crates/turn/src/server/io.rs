//! What goes into the server and what comes out of it.

use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use std::sync::Arc;

use nilas_stun::AddressFamily;

use super::config::ServerConfig;
use super::event::Event;
use crate::arena::Key;
use crate::time::Time;

/// A socket for datagrams from clients, UDP or DTLS. The driver chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// A TCP or TLS connection from a client. The driver chooses the number and uses each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A relayed transport address. A stale id finds nothing, never a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(pub(super) Key);

impl RelayId {
    /// A small number that no other relay of this core has at the same time: an index for the driver's table.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.0.slot as usize
    }
}

/// A TCP connection between the relay and a peer (RFC 6062).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) Key);

impl ConnectionId {
    /// A small number that no other connection of this core has at the same time.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.0.slot as usize
    }
}

/// An allocation, in events. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId(pub(super) Key);

/// One of the cores that together are a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u8);

/// Between a client and the server: the 5-tuple of RFC 8656 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Datagrams. Addresses are as the socket gives them, so that an answer can be sent with them.
    Datagram {
        /// The socket.
        listener: ListenerId,
        /// The client.
        client: SocketAddr,
        /// The address that the client sent to, and from which it must be answered (RFC 8489 section 6.3.1.2).
        server: SocketAddr,
    },
    /// A connection.
    Stream(StreamId),
}

impl Hash for Path {
    /// In two pieces, as every datagram's path is hashed and a hasher takes its time for each. The server's addresses, of
    /// which there are few, are left out.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match *self {
            Self::Datagram {
                listener, client, ..
            } => {
                state.write_u64(u64::from(listener.0) << 16 | u64::from(client.port()));
                match client.ip() {
                    IpAddr::V4(ip) => state.write_u32(ip.to_bits()),
                    IpAddr::V6(ip) => state.write_u128(ip.to_bits()),
                }
            }
            Self::Stream(stream) => state.write_u64(stream.0),
        }
    }
}

/// Something that happened outside, for [`Server::handle`](super::Server::handle).
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A datagram came from a client.
    ClientDatagram {
        /// Between whom. Never a stream.
        path: Path,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A datagram came to a relayed transport address.
    PeerDatagram {
        /// The relayed transport address.
        relay: RelayId,
        /// Who sent it.
        peer: SocketAddr,
        /// Its length in bytes; the bytes themselves stay with the driver.
        length: usize,
    },
    /// An ICMP error came for a datagram that was sent from a relayed transport address.
    PeerIcmp {
        /// The relayed transport address.
        relay: RelayId,
        /// Where the datagram was to go; the port is zero if it is not known.
        peer: SocketAddr,
        /// The type, of ICMP or ICMPv6 after the family of the peer.
        icmp_type: u8,
        /// The code.
        code: u8,
        /// The MTU of the next hop in bytes if the datagram was too big, else zero.
        error_data: u32,
    },
    /// The answer to [`Command::BindRelay`].
    RelayBound {
        /// The command's relay.
        relay: RelayId,
        /// The address that peers see, or why there is none.
        result: Result<SocketAddr, BindError>,
    },
    /// A client opened a stream.
    StreamOpened {
        /// Its number.
        stream: StreamId,
        /// The client.
        client: SocketAddr,
    },
    /// A 5-tuple is gone: a stream was closed by the client, or a DTLS session has ended.
    PathClosed(Path),
    /// The answer to [`Command::ConnectPeer`].
    PeerConnected {
        /// The command's connection.
        connection: ConnectionId,
        /// Whether there is a connection now.
        result: Result<(), ConnectError>,
    },
    /// A peer opened a connection to a relayed transport address. Answered by [`Handled::Accepted`].
    PeerAccepted {
        /// The relayed transport address.
        relay: RelayId,
        /// The peer.
        peer: SocketAddr,
    },
    /// A peer closed its connection, or lost it.
    PeerClosed(ConnectionId),
    /// From now on no new allocations: those who ask are sent elsewhere if there is an elsewhere.
    Drain,
    /// Another configuration holds from now on.
    ConfigChanged(Arc<ServerConfig>),
}

/// What became of an input.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handled {
    /// There is nothing to send at once. What else is to be done, [`Server::poll`](super::Server::poll) says.
    Done,
    /// Send the named range of the input's bytes to a peer, marked with the input's DSCP and ECN if that was a datagram
    /// (RFC 8656 sections 13 to 15).
    ToPeer {
        /// The relayed transport address to send from.
        relay: RelayId,
        /// Where to.
        peer: SocketAddr,
        /// Where in the input the data is.
        payload: Range<usize>,
        /// Whether the DF bit must be set (RFC 8656 section 14).
        dont_fragment: bool,
    },
    /// Send the head, the named range of the input's bytes and the tail to a client, as one message; in a datagram with
    /// the input's marks, too.
    ToClient {
        /// Where to.
        path: Path,
        /// What stands in front of the data.
        head: Head,
        /// Where in the input the data is.
        payload: Range<usize>,
        /// How many zeros follow the data, at most three.
        tail: u8,
    },
    /// The message belongs to another core of this server: give it the same input. A stream moves there as a whole:
    /// it is closed here with [`Input::PathClosed`], opened there, and its bytes are handled there from now on.
    Elsewhere(WorkerId),
    /// Keep the peer's connection, unread, under this id until [`Command::Splice`] or [`Command::ClosePeer`].
    Accepted(ConnectionId),
    /// Close the peer's connection.
    Refused,
}

/// What became of bytes of a stream.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHandled {
    /// So many bytes from the start are dealt with. If none: the driver keeps them and calls again with more.
    pub taken: usize,
    /// What is to be done. Ranges count from the start of the bytes.
    pub handled: Handled,
}

/// The bytes in front of a peer's data on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Head {
    /// The longest head in bytes: of a Data indication from an IPv6 peer.
    pub const MAX: usize = 48;

    pub(super) const fn empty() -> Self {
        Self {
            bytes: [0; Self::MAX],
            length: 0,
        }
    }

    /// A head of the given bytes, at most [`Self::MAX`] of them.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut head = Self::empty();
        let length = bytes.len().min(Self::MAX);
        head.bytes[..length].copy_from_slice(&bytes[..length]);
        head.length = length as u8;
        head
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What the server wants, from [`Server::poll`](super::Server::poll).
#[must_use]
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send the first `size` bytes of the caller's buffer to a client.
    Transmit {
        /// Where to.
        path: Path,
        /// How many bytes.
        size: usize,
    },
    /// Do this.
    Command(Command),
    /// Tell the operator.
    Event(Event),
    /// Nothing more for now. Call again after the next input, or at this time at the latest.
    Idle(Option<Time>),
}

/// Something that only the outside can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Bind a relayed transport address. Answered by [`Input::RelayBound`], always.
    BindRelay {
        /// The id of the relay from now on.
        relay: RelayId,
        /// Of which family.
        family: AddressFamily,
        /// Datagrams, or a listening TCP socket (RFC 6062 section 5.1).
        protocol: RelayProtocol,
        /// Which port.
        port: RelayPort,
    },
    /// Close a relayed transport address.
    CloseRelay(RelayId),
    /// Close the port that was reserved under this token, if it still is. Not answered.
    ReleaseReservation([u8; 8]),
    /// Connect to a peer from a relayed transport address. Answered by [`Input::PeerConnected`].
    ConnectPeer {
        /// The id of the connection from now on. Its bytes are not read until [`Command::Splice`].
        connection: ConnectionId,
        /// From where.
        relay: RelayId,
        /// Where to.
        peer: SocketAddr,
    },
    /// From now on bytes pass as they are between a client's stream and a peer's connection, in both directions
    /// and with the back pressure of the slower side. Count them with [`Server::charge`](super::Server::charge).
    Splice {
        /// The client's stream: what of it was not taken belongs to the peer.
        stream: StreamId,
        /// The peer's connection.
        connection: ConnectionId,
    },
    /// Close a peer's connection, after what was read from its client has been written.
    ClosePeer(ConnectionId),
    /// Close a client's stream, after what is to be sent on it has been written.
    CloseStream(StreamId),
    /// Give this core what comes on this path, wherever it arrives (RFC 8016: a client has moved).
    Route(Path),
    /// The path needs no routing any more.
    Unroute(Path),
}

/// What a relayed transport address speaks with peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayProtocol {
    /// UDP.
    Udp,
    /// TCP (RFC 6062).
    Tcp,
}

/// Which port a relayed transport address is to have. Ports are chosen at random within the operator's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayPort {
    /// Any.
    Any,
    /// An even one.
    Even,
    /// An even one whose successor is free; the successor is reserved under the token.
    EvenWithNext([u8; 8]),
    /// The one that was reserved under the token, by whichever core.
    Reserved([u8; 8]),
}

/// Why there is no relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// All ports of the range are taken.
    NoPort,
    /// Nothing is reserved under the token.
    NoReservation,
    /// Something else, such as too many open files.
    Other,
}

/// Why there is no connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer refused.
    Refused,
    /// The peer did not answer.
    TimedOut,
    /// Something else.
    Other,
}
