//! The ports of relayed transport addresses: chosen at random within the operator's range, each given out once by the
//! whole process, with those that are reserved for a client that will come with a token (RFC 8656 section 7.2).

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nilas_turn::server::{BindError, RelayPort, RelayProtocol};
use rand_core::Rng;

/// So many ports are tried that another program turns out to have.
const TRIES: usize = 64;
/// So often a port is drawn at random before the free ones are counted off.
const DRAWS: usize = 16;

/// The ports of one server. Locked when a relayed transport address begins or ends, never for a packet.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// For each address and protocol, one bit for each port.
    taken: BTreeMap<(IpAddr, RelayProtocol), Taken>,
    reserved: BTreeMap<[u8; 8], Reserved>,
}

#[derive(Debug)]
struct Taken {
    bits: Box<[u64; 1024]>,
    count: usize,
}

/// A port that waits, bound, for whoever brings its token.
#[derive(Debug)]
struct Reserved {
    socket: UdpSocket,
    lease: PortLease,
}

/// A port that nobody else gets until this is dropped.
#[derive(Debug)]
pub(crate) struct PortLease {
    ports: Arc<Ports>,
    address: SocketAddr,
    protocol: RelayProtocol,
}

impl Ports {
    /// Ports of this range, without those that this server listens on.
    pub(crate) fn new(range: RangeInclusive<u16>) -> Arc<Self> {
        Arc::new(Self {
            range,
            state: Mutex::default(),
        })
    }

    /// Keeps a port of the server's own from being given out.
    pub(crate) fn exclude(&self, address: IpAddr, port: u16) {
        let mut state = self.state();
        for protocol in [RelayProtocol::Udp, RelayProtocol::Tcp] {
            state.taken(address, protocol).exclude(port);
        }
    }

    /// Binds a UDP relay on this address by `bind`, and reserves its neighbour if that is asked for.
    pub(crate) fn bind_udp(
        self: &Arc<Self>,
        address: IpAddr,
        port: RelayPort,
        rng: &mut impl Rng,
        bind: impl Fn(SocketAddr) -> io::Result<UdpSocket>,
    ) -> Result<(UdpSocket, PortLease), BindError> {
        let token = match port {
            RelayPort::Reserved(token) => {
                let reserved = self.state().reserved.remove(&token);
                let Reserved { socket, lease } = reserved.ok_or(BindError::NoReservation)?;
                return Ok((socket, lease));
            }
            RelayPort::EvenWithNext(token) => Some(token),
            RelayPort::Any | RelayPort::Even => None,
        };
        let want = Want {
            even: port != RelayPort::Any,
            next: token.is_some(),
        };
        for _ in 0..TRIES {
            let lease = self.lease(address, RelayProtocol::Udp, want, rng)?;
            // Taken together with the first, which is not the last of the range then.
            let next = token.map(|token| {
                let next = PortLease {
                    ports: Arc::clone(self),
                    address: SocketAddr::new(address, lease.address.port().wrapping_add(1)),
                    protocol: RelayProtocol::Udp,
                };
                (token, next)
            });
            let socket = match bind(lease.address) {
                Ok(socket) => socket,
                Err(error) => match after(&error) {
                    Some(error) => return Err(error),
                    None => continue,
                },
            };
            let Some((token, next)) = next else {
                return Ok((socket, lease));
            };
            match bind(next.address) {
                Ok(reserved) => {
                    let reserved = Reserved {
                        socket: reserved,
                        lease: next,
                    };
                    self.state().reserved.insert(token, reserved);
                    return Ok((socket, lease));
                }
                Err(error) => {
                    if let Some(error) = after(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Err(BindError::NoPort)
    }

    /// Binds a TCP relay on this address by `bind`.
    pub(crate) fn bind_tcp<T>(
        self: &Arc<Self>,
        address: IpAddr,
        rng: &mut impl Rng,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
    ) -> Result<(T, PortLease), BindError> {
        for _ in 0..TRIES {
            let want = Want {
                even: false,
                next: false,
            };
            let lease = self.lease(address, RelayProtocol::Tcp, want, rng)?;
            match bind(lease.address) {
                Ok(socket) => return Ok((socket, lease)),
                Err(error) => {
                    if let Some(error) = after(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Err(BindError::NoPort)
    }

    /// Closes the port that is reserved under a token, if it still is.
    pub(crate) fn release(&self, token: [u8; 8]) {
        // Dropped after the lock is given back, which dropping takes again.
        let reserved = self.state().reserved.remove(&token);
        drop(reserved);
    }

    /// How many ports are given out, reserved ones included.
    pub(crate) fn in_use(&self) -> usize {
        self.state().taken.values().map(|taken| taken.count).sum()
    }

    /// Takes a free port, and its successor if that is wanted.
    fn lease(
        self: &Arc<Self>,
        address: IpAddr,
        protocol: RelayProtocol,
        want: Want,
        rng: &mut impl Rng,
    ) -> Result<PortLease, BindError> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let mut state = self.state();
        let taken = state.taken(address, protocol);
        let suits = |port: u16| {
            !(taken.has(port)
                || want.even && !port.is_multiple_of(2)
                || want.next && (port == last || taken.has(port + 1)))
        };
        let count = u32::from(last.saturating_sub(first)) + 1;
        let at = |offset: u32| first + (offset % count) as u16;
        let mut start = 0;
        let port = (0..DRAWS)
            .map(|_| {
                start = rng.next_u32() % count;
                at(start)
            })
            .find(|port| suits(*port))
            .or_else(|| (start..start + count).map(at).find(|port| suits(*port)))
            .ok_or(BindError::NoPort)?;
        taken.set(port);
        if want.next {
            taken.set(port + 1);
        }
        Ok(PortLease {
            ports: Arc::clone(self),
            address: SocketAddr::new(address, port),
            protocol,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortLease {
    /// The address that was bound.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut state = self.ports.state();
        state
            .taken(self.address.ip(), self.protocol)
            .clear(self.address.port());
    }
}

/// What is asked of a port.
#[derive(Clone, Copy)]
struct Want {
    even: bool,
    /// Its successor, too.
    next: bool,
}

impl State {
    fn taken(&mut self, address: IpAddr, protocol: RelayProtocol) -> &mut Taken {
        self.taken
            .entry((address, protocol))
            .or_insert_with(|| Taken {
                bits: Box::new([0; 1024]),
                count: 0,
            })
    }
}

impl Taken {
    fn has(&self, port: u16) -> bool {
        self.bits[usize::from(port / 64)] & mask(port) != 0
    }

    fn exclude(&mut self, port: u16) {
        self.bits[usize::from(port / 64)] |= mask(port);
    }

    fn set(&mut self, port: u16) {
        if !self.has(port) {
            self.bits[usize::from(port / 64)] |= mask(port);
            self.count += 1;
        }
    }

    fn clear(&mut self, port: u16) {
        if self.has(port) {
            self.bits[usize::from(port / 64)] &= !mask(port);
            self.count -= 1;
        }
    }
}

const fn mask(port: u16) -> u64 {
    1 << (port % 64)
}

/// Whether an error stands against every port; another program may have just this one.
fn after(error: &io::Error) -> Option<BindError> {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => None,
        _ => Some(BindError::Other),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

    /// Any port of the system's, so that the test depends on none: only the book-keeping is looked at.
    fn bind(_: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind((HOME, 0))
    }

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::from_seed([7; 32])
    }

    #[test]
    fn every_port_is_given_out_once_and_comes_back() {
        let ports = Ports::new(50_000..=50_009);
        ports.exclude(HOME, 50_003);
        let mut rng = rng();
        let leases: Vec<_> = (0..9)
            .map(|_| {
                ports
                    .bind_udp(HOME, RelayPort::Any, &mut rng, bind)
                    .unwrap()
            })
            .collect();
        let mut given: Vec<u16> = leases
            .iter()
            .map(|(_, lease)| lease.address().port())
            .collect();
        given.sort_unstable();
        let expected: Vec<u16> = (50_000..=50_009).filter(|port| *port != 50_003).collect();
        assert_eq!(given, expected);
        let none = ports.bind_udp(HOME, RelayPort::Any, &mut rng, bind);
        assert_eq!(none.unwrap_err(), BindError::NoPort);
        // TCP has ports of its own.
        ports
            .bind_tcp(HOME, &mut rng, |_| Ok(()))
            .expect("TCP's are free");
        drop(leases);
        assert_eq!(ports.in_use(), 0);
    }

    #[test]
    fn an_even_port_keeps_its_neighbour_for_the_token() {
        let ports = Ports::new(50_001..=50_004);
        let mut rng = rng();
        let token = *b"a token!";
        let even = RelayPort::EvenWithNext(token);
        let (_socket, lease) = ports.bind_udp(HOME, even, &mut rng, bind).unwrap();
        // 50,004 is even, and has no successor in the range.
        assert_eq!(lease.address().port(), 50_002);
        assert_eq!(ports.in_use(), 2);
        let (_socket, next) = ports
            .bind_udp(HOME, RelayPort::Reserved(token), &mut rng, bind)
            .unwrap();
        assert_eq!(next.address().port(), 50_003);
        let again = ports.bind_udp(HOME, RelayPort::Reserved(token), &mut rng, bind);
        assert_eq!(again.unwrap_err(), BindError::NoReservation);
        drop((lease, next));
        assert_eq!(ports.in_use(), 0);
        let (_socket, lease) = ports.bind_udp(HOME, even, &mut rng, bind).unwrap();
        ports.release(token);
        assert_eq!(ports.in_use(), 1);
        drop(lease);
    }

    #[test]
    fn a_port_of_another_program_is_passed_over() {
        let ports = Ports::new(50_000..=50_001);
        let only_the_second = |address: SocketAddr| {
            if address.port() == 50_000 {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            bind(address)
        };
        let mut rng = rng();
        let (_socket, lease) = ports
            .bind_udp(HOME, RelayPort::Any, &mut rng, only_the_second)
            .unwrap();
        assert_eq!(lease.address().port(), 50_001);
        let none = ports.bind_udp(HOME, RelayPort::Any, &mut rng, only_the_second);
        assert_eq!(none.unwrap_err(), BindError::NoPort);
        let broken = ports.bind_udp(HOME, RelayPort::Any, &mut rng, |_| {
            Err(io::ErrorKind::OutOfMemory.into())
        });
        assert_eq!(broken.unwrap_err(), BindError::Other);
        drop(lease);
        assert_eq!(ports.in_use(), 0);
    }
}
