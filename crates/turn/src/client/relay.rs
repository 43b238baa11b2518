//! Data to and from peers: Send and Data indications, ChannelData (RFC 8656 sections 11 and 12). None of it is
//! authenticated, so it is the application that must not trust it (RFC 8656 section 21.1.4).

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use nilas_stun::{Class, MAGIC_COOKIE, Message, Method, TransactionId};

use super::Client;
use crate::channel_data::{CHANNEL_NUMBERS, ChannelData};
use crate::time::Time;

/// The most bytes in front of a peer's data: a Send indication to an IPv6 peer.
pub const MAX_HEAD: usize = 48;
/// The most bytes behind it: padding to a multiple of four.
pub const MAX_TAIL: usize = 3;

/// What stands around data for a peer on its way to the server, or over a connection to the peer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// ChannelData: four bytes in front; padding only where the server is reached by a stream.
    Channel {
        /// The channel number.
        number: u16,
        /// Whether it is padded to a multiple of four.
        padded: bool,
    },
    /// A Send indication: 36 bytes in front, or 48 for an IPv6 peer, and padding.
    Send {
        /// The peer.
        peer: SocketAddr,
    },
    /// The length in two bytes in front (RFC 4571 section 2): a connection to the peer itself (RFC
    /// 6544 section 10.1).
    Length,
}

impl Framing {
    /// Writes what stands in front of `length` bytes of data into the end of `head`, and gives how
    /// many bytes that were, and how many zeros must follow the data. `None` if it is too long.
    pub fn write(
        self,
        head: &mut [u8; MAX_HEAD],
        id: TransactionId,
        length: usize,
    ) -> Option<(usize, usize)> {
        let length16 = u16::try_from(length).ok()?;
        let padding = length.wrapping_neg() % 4;
        match self {
            Self::Channel { number, padded } => {
                head[MAX_HEAD - 4..MAX_HEAD - 2].copy_from_slice(&number.to_be_bytes());
                head[MAX_HEAD - 2..].copy_from_slice(&length16.to_be_bytes());
                Some((4, if padded { padding } else { 0 }))
            }
            Self::Length => {
                head[MAX_HEAD - 2..].copy_from_slice(&length16.to_be_bytes());
                Some((2, 0))
            }
            Self::Send { peer } => {
                let size = self.head_length();
                let out = &mut head[MAX_HEAD - size..];
                let body = u16::try_from(size - 20 + length + padding).ok()?;
                // RFC 8656 section 18: Send is method 0x006, an indication 0x0010.
                out[..2].copy_from_slice(&0x0016u16.to_be_bytes());
                out[2..4].copy_from_slice(&body.to_be_bytes());
                out[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                out[8..20].copy_from_slice(id.as_bytes());
                // XOR-PEER-ADDRESS (RFC 8489 section 14.2).
                out[20..22].copy_from_slice(&0x0012u16.to_be_bytes());
                let port = peer.port() ^ (MAGIC_COOKIE >> 16) as u16;
                let data = size - 4;
                out[22..24].copy_from_slice(&((data - 24) as u16).to_be_bytes());
                out[24] = 0;
                out[26..28].copy_from_slice(&port.to_be_bytes());
                match peer.ip() {
                    IpAddr::V4(v4) => {
                        out[25] = 1;
                        out[28..32].copy_from_slice(&(v4.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
                    }
                    IpAddr::V6(v6) => {
                        out[25] = 2;
                        let mut mask = [0; 16];
                        mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                        mask[4..].copy_from_slice(id.as_bytes());
                        out[28..44].copy_from_slice(
                            &(v6.to_bits() ^ u128::from_be_bytes(mask)).to_be_bytes(),
                        );
                    }
                }
                // DATA.
                out[data..data + 2].copy_from_slice(&0x0013u16.to_be_bytes());
                out[data + 2..].copy_from_slice(&length16.to_be_bytes());
                Some((size, padding))
            }
        }
    }

    /// Bytes in front of the data.
    pub const fn head_length(self) -> usize {
        match self {
            Self::Length => 2,
            Self::Channel { .. } => 4,
            Self::Send {
                peer: SocketAddr::V4(_),
            } => 36,
            Self::Send {
                peer: SocketAddr::V6(_),
            } => 48,
        }
    }
}

/// The length of the message that these bytes of a stream begin with, its padding included; `None` while
/// they are too few to tell (RFC 8656 section 12.5, RFC 8489 section 6.2.2).
///
/// # Errors
/// [`NotTurn`] where neither STUN nor ChannelData can begin so; the stream is of no use any more.
pub fn message_length(bytes: &[u8]) -> Result<Option<usize>, NotTurn> {
    match *bytes {
        [] => Ok(None),
        [first, ..] if first & 0xC0 == 0 || CHANNEL_NUMBERS.contains(&(u16::from(first) << 8)) => {
            let Some(start) = bytes.first_chunk() else {
                return Ok(None);
            };
            if first & 0xC0 != 0 {
                return Ok(Some(ChannelData::stream_length(*start)));
            }
            let length = u16::from_be_bytes([start[2], start[3]]);
            // RFC 8489 section 5: a multiple of four.
            if length % 4 != 0 {
                return Err(NotTurn);
            }
            Ok(Some(HEADER + usize::from(length)))
        }
        _ => Err(NotTurn),
    }
}

/// A stream that carries something else than TURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTurn;

impl core::fmt::Display for NotTurn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the other end of the stream speaks something else than TURN")
    }
}

impl core::error::Error for NotTurn {}

/// RFC 8489 section 5.
const HEADER: usize = 20;

/// What became of something that the server sent.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The client took it in.
    Consumed,
    /// A peer's data, a range of the given bytes.
    Data {
        /// The peer.
        peer: SocketAddr,
        /// Where the data is.
        range: Range<usize>,
    },
    /// It is no message of TURN.
    NotOurs,
}

impl Client {
    /// Takes in a datagram of the server, or one whole message of its stream.
    pub fn handle(&mut self, now: Time, bytes: &[u8]) -> Received {
        if let [first @ 0x40..=0x4F, second, high, low, ..] = *bytes {
            let number = u16::from_be_bytes([first, second]);
            let length = usize::from(u16::from_be_bytes([high, low]));
            let channel =
                |peer: &&super::Peer| peer.channel.is_some_and(|channel| channel.number == number);
            return match self.peers.iter().find(channel) {
                Some(peer) if 4 + length <= bytes.len() => Received::Data {
                    peer: peer.address,
                    range: 4..4 + length,
                },
                _ => Received::NotOurs,
            };
        }
        let Ok(message) = Message::parse(bytes) else {
            return Received::NotOurs;
        };
        match message.class() {
            Class::SuccessResponse | Class::ErrorResponse => {
                match self.handle_response(now, &message) {
                    true => Received::Consumed,
                    false => Received::NotOurs,
                }
            }
            Class::Indication if message.method() == Method::DATA => {
                self.handle_data(bytes, &message)
            }
            Class::Indication | Class::Request => Received::NotOurs,
        }
    }

    /// RFC 8656 section 11.4: only from peers that were permitted. An ICMP error in one (section 11.6) is a hint that
    /// anyone could have forged, and left to retransmission.
    fn handle_data(&self, bytes: &[u8], message: &Message<'_>) -> Received {
        let Ok(Some(peer)) = message.xor_peer_address() else {
            return Received::NotOurs;
        };
        if !self
            .peers
            .iter()
            .any(|known| known.address.ip() == peer.ip())
        {
            return Received::NotOurs;
        }
        let Some(data) = message.data() else {
            return Received::Consumed;
        };
        // The data is a part of these bytes.
        let start = data.as_ptr().addr() - bytes.as_ptr().addr();
        Received::Data {
            peer,
            range: start..start + data.len(),
        }
    }

    /// How data for a peer is framed now.
    pub fn framing(&self, now: Time, peer: SocketAddr) -> Framing {
        let padded = !self.datagram();
        let channel = self
            .peers
            .iter()
            .find(|known| known.address == peer)
            .and_then(|known| known.channel);
        match channel {
            Some(channel) if channel.bound_until.is_some_and(|until| until > now) => {
                Framing::Channel {
                    number: channel.number,
                    padded,
                }
            }
            _ => Framing::Send { peer },
        }
    }
}
