//! Where a session's data goes, published so that sending needs neither the engine nor a lock.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::ids::SocketId;
use crate::time::Time;

/// The path that data takes at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// The socket to send from.
    pub socket: SocketId,
    /// Where to send.
    pub destination: SocketAddr,
    /// Rises each time the path changes.
    pub epoch: u32,
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
    /// Socket, port, kind of word (which [`NoPath`], or an address family).
    head: AtomicU64,
    address: [AtomicU64; 2],
    scope: AtomicU64,
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
    last_sent: AtomicU64,
}

const NOT_CONNECTED: u64 = 0;
const CONSENT_EXPIRED: u64 = 1;
const FAILED: u64 = 2;
const CLOSED: u64 = 3;
const V4: u64 = 4;
const V6: u64 = 5;

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
            packets_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            last_sent: AtomicU64::new(0),
        }
    }

    /// The path to send on now.
    pub fn load(&self) -> Result<Path, NoPath> {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let head = self.head.load(Ordering::Relaxed);
            let address = [
                self.address[0].load(Ordering::Relaxed),
                self.address[1].load(Ordering::Relaxed),
            ];
            let scope = self.scope.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 1 || self.version.load(Ordering::Relaxed) != before {
                core::hint::spin_loop();
                continue;
            }
            return decode(before, head, address, scope);
        }
    }

    /// To be called by whoever sent `packets` datagrams of application data, together `bytes` long.
    pub fn record_sent(&self, now: Time, packets: u64, bytes: u64) {
        self.packets_sent.fetch_add(packets, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.last_sent.fetch_max(now.as_nanos(), Ordering::Relaxed);
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

    pub(crate) fn publish(&self, path: Result<(SocketId, SocketAddr), NoPath>) {
        let (head, address, scope) = encode(path);
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.head.store(head, Ordering::Relaxed);
        self.address[0].store(address[0], Ordering::Relaxed);
        self.address[1].store(address[1], Ordering::Relaxed);
        self.scope.store(scope, Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }
}

fn encode(path: Result<(SocketId, SocketAddr), NoPath>) -> (u64, [u64; 2], u64) {
    let (socket, destination) = match path {
        Ok(path) => path,
        Err(NoPath::NotConnected) => return (NOT_CONNECTED, [0; 2], 0),
        Err(NoPath::ConsentExpired) => return (CONSENT_EXPIRED, [0; 2], 0),
        Err(NoPath::Failed) => return (FAILED, [0; 2], 0),
        Err(NoPath::Closed) => return (CLOSED, [0; 2], 0),
    };
    let (family, address, scope) = match destination {
        SocketAddr::V4(v4) => (V4, u128::from(v4.ip().to_bits()), 0),
        SocketAddr::V6(v6) => (V6, v6.ip().to_bits(), v6.scope_id()),
    };
    let head = u64::from(socket.0) << 32 | u64::from(destination.port()) << 16 | family;
    (head, [(address >> 64) as u64, address as u64], scope.into())
}

fn decode(version: u64, head: u64, address: [u64; 2], scope: u64) -> Result<Path, NoPath> {
    let port = (head >> 16) as u16;
    let destination = match head & 0xffff {
        NOT_CONNECTED => return Err(NoPath::NotConnected),
        CONSENT_EXPIRED => return Err(NoPath::ConsentExpired),
        FAILED => return Err(NoPath::Failed),
        V4 => SocketAddr::new(IpAddr::V4((address[1] as u32).into()), port),
        V6 => {
            let ip = Ipv6Addr::from_bits(u128::from(address[0]) << 64 | u128::from(address[1]));
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope as u32))
        }
        _ => return Err(NoPath::Closed),
    };
    Ok(Path {
        socket: SocketId((head >> 32) as u32),
        destination,
        epoch: (version / 2) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_loaded() {
        let cell = PathCell::new();
        assert_eq!(cell.load(), Err(NoPath::NotConnected));
        for (socket, address) in [
            (7, "192.0.2.1:65535"),
            (u32::MAX, "[2001:db8::1%9]:1"),
            (0, "0.0.0.0:0"),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            cell.publish(Ok((SocketId(socket), address)));
            let path = cell.load().expect("a path");
            assert_eq!((path.socket, path.destination), (SocketId(socket), address));
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
    fn a_reader_never_sees_half_a_path() {
        let cell = PathCell::new();
        let address = |n: u16| SocketAddr::from(([(n >> 8) as u8, n as u8, 0, 0], n));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..20_000u16).for_each(|n| cell.publish(Ok((SocketId(n.into()), address(n)))))
            });
            for _ in 0..20_000 {
                if let Ok(path) = cell.load() {
                    let n = path.destination.port();
                    assert_eq!(
                        (path.socket, path.destination),
                        (SocketId(n.into()), address(n))
                    );
                }
            }
        });
    }
}
