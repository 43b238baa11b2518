//! The trace: every datagram and its fate.

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;

use nilas_ice::Time;

use crate::packet::Flow;
use crate::world::NodeId;

/// Every datagram that was sent in a world, in the order of sending.
///
/// `Display` writes one line for each, with all its bytes: two runs are the same run exactly if these
/// texts are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    packets: Vec<TracedPacket>,
    /// How many were forgotten: the number of the first one that is left.
    forgotten: usize,
}

impl Trace {
    /// The datagrams; a copy that a wire made is one of its own.
    pub fn packets(&self) -> &[TracedPacket] {
        &self.packets
    }

    pub(crate) fn add(&mut self, packet: TracedPacket) -> PacketNumber {
        self.packets.push(packet);
        PacketNumber(self.forgotten + self.packets.len() - 1)
    }

    /// Forgets all packets so far; what becomes of those under way is not told any more.
    pub(crate) fn forget(&mut self) {
        self.forgotten += self.packets.len();
        self.packets.clear();
    }

    /// What became of a packet, at which node.
    pub(crate) fn settle(&mut self, number: PacketNumber, place: Option<NodeId>, fate: Fate) {
        if let Some(packet) = self.place_of(number) {
            self.packets[packet].place = place;
            self.packets[packet].fate = fate;
        }
    }

    /// A copy of a packet, which is a packet of its own.
    pub(crate) fn copy(&mut self, number: PacketNumber) -> PacketNumber {
        let Some(place) = self.place_of(number) else {
            // Nothing is told of it, as of its original.
            return number;
        };
        let copy = TracedPacket {
            copy_of: Some(number.0),
            ..self.packets[place].clone()
        };
        self.add(copy)
    }

    fn place_of(&self, number: PacketNumber) -> Option<usize> {
        number.0.checked_sub(self.forgotten)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packets
            .iter()
            .try_for_each(|packet| writeln!(f, "{packet}"))
    }
}

/// A packet by its number since the beginning of the world: only [`Trace::add`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketNumber(usize);

/// One datagram: as it was sent, and what became of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TracedPacket {
    /// When it was sent.
    pub sent: Time,
    /// The node that sent it.
    pub sender: NodeId,
    /// Where it claims to come from, before any NAT.
    pub source: SocketAddr,
    /// Where it was to go, before any NAT.
    pub destination: SocketAddr,
    /// UDP or TCP, and what TCP's header says.
    pub flow: Flow,
    /// Its bytes, without the headers of IP, UDP and TCP.
    pub payload: Arc<[u8]>,
    /// The number of the packet of which a wire made this copy, counted from the beginning of the world.
    pub copy_of: Option<usize>,
    /// The node at which it ended: the receiver, a router that stopped it, or the one whose wire lost it.
    pub place: Option<NodeId>,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for TracedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            sender,
            source,
            destination,
            flow,
            payload,
            copy_of,
            place,
            fate,
        } = self;
        write!(
            f,
            "{} {sender} {flow} {source} > {destination} {fate}",
            Milliseconds(*sent)
        )?;
        if let (Some(place), false) = (place, matches!(fate, Fate::Delivered { .. })) {
            write!(f, " at {place}")?;
        }
        if let Some(original) = copy_of {
            write!(f, ", a copy of packet {original}")?;
        }
        write!(f, ", {} bytes ", payload.len())?;
        payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It is on its way.
    UnderWay,
    /// It reached a socket.
    Delivered {
        /// When.
        at: Time,
        /// The node of the socket.
        node: NodeId,
        /// Where it came from as the receiver saw it, after all NATs.
        source: SocketAddr,
    },
    /// A wire lost it.
    Lost,
    /// Its sender, or the node it reached, was down.
    NodeDown,
    /// Nobody has its destination's address, or its source's is not one of the sender's.
    NoRoute,
    /// It reached a node that has no socket at this address and port.
    NoSocket,
    /// A NAT or a firewall had no mapping or flow for it, or its filter refused it.
    Filtered,
    /// A firewall blocks its port.
    Blocked,
    /// A NAT had no port left for it.
    NoPort,
    /// It was larger than a wire's MTU.
    TooLarge,
    /// The queue of a wire was full.
    QueueFull,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnderWay => f.write_str("under way"),
            Self::Delivered { at, node, source } => {
                write!(
                    f,
                    "delivered at {} to {node} as from {source}",
                    Milliseconds(*at)
                )
            }
            Self::Lost => f.write_str("lost"),
            Self::NodeDown => f.write_str("dropped: node down"),
            Self::NoRoute => f.write_str("dropped: no route"),
            Self::NoSocket => f.write_str("dropped: no socket"),
            Self::Filtered => f.write_str("dropped: filtered"),
            Self::Blocked => f.write_str("dropped: port blocked"),
            Self::NoPort => f.write_str("dropped: no port left"),
            Self::TooLarge => f.write_str("dropped: too large"),
            Self::QueueFull => f.write_str("dropped: queue full"),
        }
    }
}

/// A time for people, without a loss of digits.
struct Milliseconds(Time);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        write!(
            f,
            "{}.{:06} ms",
            nanoseconds / 1_000_000,
            nanoseconds % 1_000_000
        )
    }
}
