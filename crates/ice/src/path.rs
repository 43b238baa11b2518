//! Where a session's data goes, published so that sending needs neither the engine nor a lock.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::sync::atomic::{AtomicU64, Ordering, fence};

use nilas_stun::TransactionId;
use nilas_turn::Time;
use nilas_turn::client::{Framing, MAX_HEAD, MAX_TAIL};

use crate::ids::{SocketId, StreamId};

/// The path that data takes at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// What to send through.
    pub via: Via,
    /// What to put around each datagram, if a TURN server relays it or it goes over a connection.
    pub framing: Option<Framing>,
    /// The most bytes of a datagram, with what is put around it, that the path is known to carry in one piece, or taken
    /// to: see [`Mtu`](crate::Mtu).
    pub datagram: u16,
    /// Rises each time the path changes.
    pub epoch: u32,
}

impl Path {
    /// The most bytes of application data that the path is known to carry in one datagram, or taken to (RFC 8899 section
    /// 4.4).
    ///
    /// Over a connection to a TURN server a datagram of any size gets as far as the server, which sends the data on in a
    /// datagram of its own.
    pub const fn max_payload(&self) -> usize {
        let datagram = self.datagram as usize;
        match (self.via, self.framing) {
            (Via::Socket { .. }, Some(framing)) => datagram.saturating_sub(framing.head_length()),
            _ => datagram,
        }
    }

    /// Appends a datagram of application data to `out` as it is to be sent: with what a TURN server needs
    /// around it. An indication gets this transaction id, which nothing answers. False, and `out` is as
    /// before, if it is too long to be framed.
    pub fn frame(&self, id: TransactionId, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(framing) = self.framing else {
            out.extend_from_slice(payload);
            return true;
        };
        let mut head = [0; MAX_HEAD];
        let Some((size, padding)) = framing.write(&mut head, id, payload.len()) else {
            return false;
        };
        out.extend_from_slice(&head[MAX_HEAD - size..]);
        out.extend_from_slice(payload);
        out.extend_from_slice(&[0; MAX_TAIL][..padding]);
        true
    }
}

/// What carries a session's datagrams: to the peer, or to the TURN server that relays them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A UDP socket.
    Socket {
        /// The socket to send from.
        socket: SocketId,
        /// Where to send.
        destination: SocketAddr,
    },
    /// A connection, to the peer or to a TURN server.
    Stream(StreamId),
}

/// A datagram, or a message of a stream, that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) via: Via,
    /// Its length in the caller's buffer.
    pub(crate) size: usize,
}

/// Why there is no path to send on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoPath {
    /// No pair works yet.
    NotConnected,
    /// The peer's consent to receive has expired (RFC 7675 section 5.1).
    ConsentExpired,
    /// The session has failed; a restart may find another path.
    Failed,
    /// The session was closed.
    Closed,
}

impl fmt::Display for NoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "there is no path yet: wait until the session is connected",
            Self::ConsentExpired => {
                "the peer no longer consents to receive: wait for another path, or restart"
            }
            Self::Failed => "the session has failed: restart it",
            Self::Closed => "the session is closed",
        })
    }
}

impl core::error::Error for NoPath {}

/// A session's path, shared between the engine, which writes it, and whoever sends.
///
/// A sequence lock over atomics: the version is odd while the engine writes, and a reader that saw it
/// change reads again. There is one writer, because an engine is owned by one thread.
#[derive(Debug)]
pub struct PathCell {
    version: AtomicU64,
    /// Socket or stream, port, kind of word (which [`NoPath`], or what the destination is).
    head: AtomicU64,
    address: [AtomicU64; 2],
    /// The scope of the address, and above it the longest datagram.
    scope: AtomicU64,
    /// Zero where nothing is put around the data, else the kind of framing and what it holds.
    framing: AtomicU64,
    peer: [AtomicU64; 2],
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
    last_sent: AtomicU64,
    packets_discarded: AtomicU64,
    bytes_discarded: AtomicU64,
}

const NOT_CONNECTED: u64 = 0;
const CONSENT_EXPIRED: u64 = 1;
const FAILED: u64 = 2;
const CLOSED: u64 = 3;
const V4: u64 = 4;
const V6: u64 = 5;
const STREAM: u64 = 6;

const CHANNEL: u64 = 1;
const SEND_V4: u64 = 2;
const SEND_V6: u64 = 3;
const LENGTH: u64 = 4;

/// A path as words.
#[derive(Clone, Copy)]
struct Words {
    head: u64,
    address: [u64; 2],
    scope: u64,
    framing: u64,
    peer: [u64; 2],
}

impl Default for PathCell {
    fn default() -> Self {
        Self::new()
    }
}

impl PathCell {
    /// A cell without a path.
    pub const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            head: AtomicU64::new(NOT_CONNECTED),
            address: [const { AtomicU64::new(0) }; 2],
            scope: AtomicU64::new(0),
            framing: AtomicU64::new(0),
            peer: [const { AtomicU64::new(0) }; 2],
            packets_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            last_sent: AtomicU64::new(0),
            packets_discarded: AtomicU64::new(0),
            bytes_discarded: AtomicU64::new(0),
        }
    }

    /// The path to send on now.
    pub fn load(&self) -> Result<Path, NoPath> {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let framing = self.framing.load(Ordering::Relaxed);
            let words = Words {
                head: self.head.load(Ordering::Relaxed),
                address: load_pair(&self.address),
                scope: self.scope.load(Ordering::Relaxed),
                framing,
                // Only a relayed path has one.
                peer: match framing {
                    0 => [0; 2],
                    _ => load_pair(&self.peer),
                },
            };
            fence(Ordering::Acquire);
            if before & 1 == 1 || self.version.load(Ordering::Relaxed) != before {
                core::hint::spin_loop();
                continue;
            }
            return decode(before, words);
        }
    }

    /// Whether the path is still the one that [`load`](Self::load) gave with this epoch: cheaper than to load
    /// it again for each datagram.
    pub fn is_at(&self, epoch: u32) -> bool {
        let version = self.version.load(Ordering::Acquire);
        version & 1 == 0 && epoch_of(version) == epoch
    }

    /// To be called by whoever sent `packets` datagrams of application data, together `bytes` long: `now`, or, if there is
    /// none, within a few milliseconds after it last said when.
    pub fn record_sent(&self, now: Option<Time>, packets: u64, bytes: u64) {
        self.packets_sent.fetch_add(packets, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(now) = now {
            // Of two at once either may stand: they differ by no more than a send takes.
            self.last_sent.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// To be called by whoever could not send `packets` datagrams of application data, together `bytes` long, because
    /// the system refused.
    pub fn record_discarded(&self, packets: u64, bytes: u64) {
        self.packets_discarded.fetch_add(packets, Ordering::Relaxed);
        self.bytes_discarded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Datagrams of application data that the system refused to send so far.
    pub fn packets_discarded(&self) -> u64 {
        self.packets_discarded.load(Ordering::Relaxed)
    }

    /// Bytes of application data that the system refused to send so far.
    pub fn bytes_discarded(&self) -> u64 {
        self.bytes_discarded.load(Ordering::Relaxed)
    }

    /// Datagrams of application data sent so far.
    pub fn packets_sent(&self) -> u64 {
        self.packets_sent.load(Ordering::Relaxed)
    }

    /// Bytes of application data sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// When application data was last sent; [`Time::ZERO`] if never.
    pub fn last_sent(&self) -> Time {
        Time::from_nanos(self.last_sent.load(Ordering::Relaxed))
    }

    pub(crate) fn publish(&self, path: Result<(Via, Option<Framing>, u16), NoPath>) {
        let words = encode(path);
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.head.store(words.head, Ordering::Relaxed);
        store_pair(&self.address, words.address);
        self.scope.store(words.scope, Ordering::Relaxed);
        self.framing.store(words.framing, Ordering::Relaxed);
        store_pair(&self.peer, words.peer);
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }
}

fn load_pair(pair: &[AtomicU64; 2]) -> [u64; 2] {
    [
        pair[0].load(Ordering::Relaxed),
        pair[1].load(Ordering::Relaxed),
    ]
}

fn store_pair(pair: &[AtomicU64; 2], [high, low]: [u64; 2]) {
    pair[0].store(high, Ordering::Relaxed);
    pair[1].store(low, Ordering::Relaxed);
}

fn encode(path: Result<(Via, Option<Framing>, u16), NoPath>) -> Words {
    let mut words = Words {
        head: NOT_CONNECTED,
        address: [0; 2],
        scope: 0,
        framing: 0,
        peer: [0; 2],
    };
    let (via, framing, datagram) = match path {
        Ok(path) => path,
        Err(reason) => {
            words.head = match reason {
                NoPath::NotConnected => NOT_CONNECTED,
                NoPath::ConsentExpired => CONSENT_EXPIRED,
                NoPath::Failed => FAILED,
                NoPath::Closed => CLOSED,
            };
            return words;
        }
    };
    match via {
        Via::Socket {
            socket,
            destination,
        } => {
            let (family, address, scope) = match destination {
                SocketAddr::V4(v4) => (V4, u128::from(v4.ip().to_bits()), 0),
                SocketAddr::V6(v6) => (V6, v6.ip().to_bits(), v6.scope_id()),
            };
            words.head = u64::from(socket.0) << 32 | u64::from(destination.port()) << 16 | family;
            words.address = split(address);
            words.scope = scope.into();
        }
        Via::Stream(stream) => words.head = u64::from(stream.0) << 32 | STREAM,
    }
    words.scope |= u64::from(datagram) << 32;
    match framing {
        None => {}
        Some(Framing::Length) => words.framing = LENGTH,
        Some(Framing::Channel { number, padded }) => {
            words.framing = u64::from(padded) << 32 | u64::from(number) << 16 | CHANNEL;
        }
        Some(Framing::Send { peer }) => {
            let (kind, address) = match peer.ip() {
                IpAddr::V4(v4) => (SEND_V4, u128::from(v4.to_bits())),
                IpAddr::V6(v6) => (SEND_V6, v6.to_bits()),
            };
            words.framing = u64::from(peer.port()) << 16 | kind;
            words.peer = split(address);
        }
    }
    words
}

fn decode(version: u64, words: Words) -> Result<Path, NoPath> {
    let id = (words.head >> 32) as u32;
    let destination = |ip| {
        let port = (words.head >> 16) as u16;
        match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, words.scope as u32).into(),
        }
    };
    let via = match words.head & 0xffff {
        NOT_CONNECTED => return Err(NoPath::NotConnected),
        CONSENT_EXPIRED => return Err(NoPath::ConsentExpired),
        FAILED => return Err(NoPath::Failed),
        kind @ (V4 | V6) => Via::Socket {
            socket: SocketId(id),
            destination: destination(joined(kind == V4, words.address)),
        },
        STREAM => Via::Stream(StreamId(id)),
        _ => return Err(NoPath::Closed),
    };
    let number = (words.framing >> 16) as u16;
    let framing = match words.framing & 0xffff {
        LENGTH => Some(Framing::Length),
        CHANNEL => Some(Framing::Channel {
            number,
            padded: words.framing >> 32 != 0,
        }),
        kind @ (SEND_V4 | SEND_V6) => Some(Framing::Send {
            peer: SocketAddr::new(joined(kind == SEND_V4, words.peer), number),
        }),
        _ => None,
    };
    Ok(Path {
        via,
        framing,
        datagram: (words.scope >> 32) as u16,
        epoch: epoch_of(version),
    })
}

const fn epoch_of(version: u64) -> u32 {
    (version / 2) as u32
}

const fn split(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

fn joined(v4: bool, [high, low]: [u64; 2]) -> IpAddr {
    if v4 {
        return IpAddr::V4((low as u32).into());
    }
    IpAddr::V6(Ipv6Addr::from_bits(
        u128::from(high) << 64 | u128::from(low),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_loaded() {
        let cell = PathCell::new();
        assert_eq!(cell.load(), Err(NoPath::NotConnected));
        let socket = |number, address: &str| Via::Socket {
            socket: SocketId(number),
            destination: address.parse().expect("an address"),
        };
        let channel = |padded| Framing::Channel {
            number: 0x4fff,
            padded,
        };
        let send = |peer: &str| Framing::Send {
            peer: peer.parse().expect("an address"),
        };
        for (via, framing) in [
            (socket(7, "192.0.2.1:65535"), None),
            (socket(u32::MAX, "[2001:db8::1%9]:1"), Some(channel(false))),
            (socket(0, "0.0.0.0:0"), Some(send("192.0.2.2:65535"))),
            (Via::Stream(StreamId(u32::MAX)), Some(channel(true))),
            (Via::Stream(StreamId(1)), Some(Framing::Length)),
            (Via::Stream(StreamId(0)), Some(send("[2001:db8::2]:1"))),
        ] {
            cell.publish(Ok((via, framing, u16::MAX - 1)));
            let path = cell.load().expect("a path");
            assert_eq!((path.via, path.framing), (via, framing));
            assert_eq!(path.datagram, u16::MAX - 1);
            assert!(cell.is_at(path.epoch));
            assert!(!cell.is_at(path.epoch - 1), "the one before is past");
        }
        for reason in [
            NoPath::NotConnected,
            NoPath::ConsentExpired,
            NoPath::Failed,
            NoPath::Closed,
        ] {
            cell.publish(Err(reason));
            assert_eq!(cell.load(), Err(reason));
        }
    }

    #[test]
    fn what_a_relay_needs_is_room_that_data_does_not_have() {
        let socket = Via::Socket {
            socket: SocketId(0),
            destination: SocketAddr::from(([192, 0, 2, 1], 1)),
        };
        let send = |peer: &str| Framing::Send {
            peer: peer.parse().expect("an address"),
        };
        let channel = Framing::Channel {
            number: 0x4000,
            padded: false,
        };
        for (via, framing, wanted) in [
            (socket, None, 1232),
            (socket, Some(channel), 1228),
            (socket, Some(send("192.0.2.2:1")), 1196),
            (socket, Some(send("[2001:db8::2]:1")), 1184),
            (Via::Stream(StreamId(0)), Some(send("192.0.2.2:1")), 1232),
        ] {
            let path = Path {
                via,
                framing,
                datagram: 1232,
                epoch: 0,
            };
            assert_eq!(path.max_payload(), wanted, "{path:?}");
            let mut out = Vec::new();
            let id = TransactionId::new([0; 12]);
            assert!(path.frame(id, &vec![0; wanted], &mut out));
            assert!(
                out.len() == 1232 || matches!(via, Via::Stream(_)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_reader_never_sees_half_a_path() {
        let cell = PathCell::new();
        let address = |n: u16| SocketAddr::from(([(n >> 8) as u8, n as u8, 0, 0], n));
        let path = |n: u16| {
            let via = Via::Socket {
                socket: SocketId(n.into()),
                destination: address(n),
            };
            // Every other one is relayed.
            (
                via,
                n.is_multiple_of(2)
                    .then_some(Framing::Send { peer: address(n) }),
                n,
            )
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (1..20_000u16).for_each(|n| cell.publish(Ok(path(n)))));
            for _ in 0..20_000 {
                if let Ok(Path {
                    via,
                    framing,
                    datagram,
                    ..
                }) = cell.load()
                {
                    let Via::Socket { socket, .. } = via else {
                        unreachable!("none was published");
                    };
                    assert_eq!((via, framing, datagram), path(socket.0 as u16));
                }
            }
        });
    }
}
