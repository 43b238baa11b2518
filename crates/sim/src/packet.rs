//! A packet under way, and what wires and middleboxes look at.

use core::net::SocketAddr;
use std::sync::Arc;

use crate::trace::PacketNumber;

/// A packet under way, with the addresses it has at this point.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) number: PacketNumber,
    pub(crate) flow: Flow,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Arc<[u8]>,
}

impl Packet {
    /// The length of the IP packet in bytes.
    pub(crate) fn ip_bytes(&self) -> usize {
        let network = if self.destination.is_ipv4() { 20 } else { 40 };
        let transport = if self.flow.is_tcp() { 20 } else { 8 };
        network + transport + self.payload.len()
    }
}

/// The transport of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the network carries these two and nothing else"
)]
pub enum Flow {
    /// UDP.
    Udp,
    /// TCP.
    Tcp(Segment),
}

impl Flow {
    /// Whether it is TCP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

/// The header of a TCP segment, as far as this network has one: bytes are counted from zero and never wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The number of the first byte of the payload; a SYN and a FIN count as a byte.
    pub sequence: u64,
    /// The number of the next byte that is expected from the other side; `None` without ACK.
    pub acknowledgement: Option<u64>,
    /// It opens a connection.
    pub syn: bool,
    /// Nothing follows.
    pub fin: bool,
    /// There is no such connection (any more).
    pub rst: bool,
}

impl core::fmt::Display for Flow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self::Tcp(segment) = self else {
            return f.write_str("UDP");
        };
        f.write_str("TCP")?;
        for (flag, name) in [
            (segment.syn, " SYN"),
            (segment.fin, " FIN"),
            (segment.rst, " RST"),
        ] {
            if flag {
                f.write_str(name)?;
            }
        }
        write!(f, " seq {}", segment.sequence)?;
        match segment.acknowledgement {
            Some(acknowledgement) => write!(f, " ack {acknowledgement}"),
            None => Ok(()),
        }
    }
}
