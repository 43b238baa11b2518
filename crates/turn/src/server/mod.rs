//! The server's end: a relay for many clients (RFC 8656), as one core or several.
//!
//! A [`Server`] is a core: it is driven by one thread, and shares with the other cores of its server only what is in
//! [`Common`], which no packet locks. Whoever drives it gives it what happens ([`Server::handle`] and
//! [`Server::handle_stream`]), does at once what these say, and does what [`Server::poll`] says until
//! [`Output::Idle`].
//!
//! ```
//! use std::sync::Arc;
//! use nilas_turn::Time;
//! use nilas_turn::server::{Common, Input, ListenerId, Output, Path, Server, ServerConfig, WorkerId};
//!
//! let mut config = ServerConfig::new("example.org")?;
//! config.add_user("ann", "a long password")?;
//! let unix_time = std::time::Duration::from_secs(1_700_000_000); // of the driver's clock, at Time::ZERO
//! let common = Common::new([0; 32], unix_time, 1); // a secret of the system's generator
//! let mut server = Server::new(Arc::new(config), common, WorkerId(0), [1; 32]);
//!
//! let now = Time::ZERO;
//! let path = Path::Datagram {
//!     listener: ListenerId(0),
//!     client: "192.0.2.1:50000".parse()?,
//!     server: "192.0.2.2:3478".parse()?,
//! };
//! let bytes = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]; // a Binding request
//! let _ = server.handle(now, Input::ClientDatagram { path, bytes: &bytes });
//! let mut buffer = [0; nilas_turn::server::MIN_BUFFER];
//! let Output::Transmit { size, .. } = server.poll(now, &mut buffer) else { panic!() };
//! assert_eq!(buffer[..2], [1, 1]); // a success response
//! # let _ = size;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way of a message: `request` tells what it is; `authenticate` who sent it, and only what it has let through
//! reaches `allocate`, `refresh`, `permission` or `connect`. Data takes the short way through `data`: a look-up of
//! its path, one of its peer, and out.
//!
//! | room | what lives there | RFC |
//! |---|---|---|
//! | `request`, `authenticate`, `answer` | from bytes to a caller, from an outcome to bytes | 8489 sections 6, 9.2 |
//! | `credential`, `token`, `nonce` | users, shared secrets, tokens; nonces without memory | 8489 section 9.2, 7635 |
//! | `allocate`, `refresh`, `mobility`, `allocation` | the life of an allocation | 8656 sections 6 to 8, 8016 |
//! | `permission`, `relay`, `data` | whom it talks to, and the data | 8656 sections 9 to 12 |
//! | `stream`, `connect` | clients on streams, peers on connections | 8489 section 6.2.2, 6062 |
//! | `binding` | Binding, NAT behavior discovery | 5780 |
//! | `peer_rule`, `special_purpose` | the one rule on peers' addresses | 6890 |
//! | `quota`, `limiter` | what users may use, how many errors a stranger gets | 8656 section 5 |
//! | `io`, `event`, `counters`, `config`, `common`, `timers` | the small things | |
//!
//! All that a stranger can cause is bounded: an answer to an unverified source is at most five times as long as its
//! request, errors are limited by source in fixed memory, and nothing is remembered before a user has answered with
//! a nonce of the server's and a key. All that a user can cause is bounded by quotas, and charged until it is gone.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nilas_stun::{AttributeType, Icmp, TransactionId};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use siphasher::sip::SipHasher13;

use self::allocation::Allocation;
use self::answer::{Outbox, Queued};
use self::connect::Connection;
use self::limiter::Limiter;
use self::quota::Charge;
use self::relay::Relay;
use self::stream::Stream;
use self::timers::{Timer, Timers};
use crate::arena::{Arena, Key};
use crate::time::Time;

mod allocate;
mod allocation;
mod answer;
mod authenticate;
mod binding;
mod common;
mod config;
mod connect;
mod counters;
mod credential;
mod data;
mod event;
mod io;
mod limiter;
mod mobility;
mod nonce;
mod peer_rule;
mod permission;
mod quota;
mod refresh;
mod relay;
mod request;
mod special_purpose;
mod stream;
mod timers;
mod token;

pub use self::common::Common;
pub use self::config::{AlternateServer, ConfigError, Discovery, RelayFamilies, ServerConfig};
pub use self::counters::Counters;
pub use self::event::{EndReason, Event, Traffic};
pub use self::io::{
    AllocationId, BindError, Command, ConnectError, ConnectionId, Handled, Head, Input, ListenerId,
    Output, Path, RelayId, RelayPort, RelayProtocol, StreamHandled, StreamId, WorkerId,
};
pub use self::peer_rule::{Forbidden, PeerRule};

/// Bytes that the buffer for [`Server::poll`] must have for the longest answer.
pub const MIN_BUFFER: usize = 2_048;

/// A core of a TURN server.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    /// What the configuration implies: the comprehension-required attributes that are understood.
    understood: Vec<AttributeType>,
    common: Arc<Common>,
    worker: WorkerId,
    rng: ChaCha12Rng,
    allocations: Arena<Allocation>,
    relays: Arena<Relay>,
    connections: Arena<Connection>,
    // Nothing iterates over these four, so their order cannot reach an output.
    paths: HashMap<Path, Key, Keys>,
    streams: HashMap<StreamId, Stream, Keys>,
    /// The UDP relayed transport addresses of this core.
    relay_addresses: HashMap<SocketAddr, Key, Keys>,
    connection_numbers: HashMap<u32, Key, Keys>,
    reservations: BTreeMap<[u8; 8], Reservation>,
    timers: Timers,
    outbox: Outbox,
    limiter: Limiter,
    counters: Counters,
    draining: bool,
}

/// A port that is kept for whoever comes with its token.
#[derive(Debug)]
struct Reservation {
    until: Time,
    /// Paid back when this is dropped.
    _charge: Charge,
}

impl Server {
    /// A core. Each core of a server has another number, and a seed of its own from the system's generator; all of
    /// them have the same configuration and the same `common`.
    #[must_use]
    pub fn new(
        config: Arc<ServerConfig>,
        common: Arc<Common>,
        worker: WorkerId,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut keys = || Keys(rng.next_u64(), rng.next_u64());
        let (paths, first, second) = (keys(), keys(), keys());
        Self {
            understood: config.understood(),
            config,
            common,
            worker,
            rng,
            allocations: Arena::new(),
            relays: Arena::new(),
            connections: Arena::new(),
            paths: HashMap::with_hasher(paths),
            streams: HashMap::with_hasher(paths),
            relay_addresses: HashMap::with_hasher(paths),
            connection_numbers: HashMap::with_hasher(paths),
            reservations: BTreeMap::new(),
            timers: Timers::default(),
            outbox: Outbox::default(),
            limiter: Limiter::new([(first.0, first.1), (second.0, second.1)]),
            counters: Counters::default(),
            draining: false,
        }
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> Handled {
        match input {
            Input::ClientDatagram { path, bytes } => return self.client_message(now, path, bytes),
            Input::PeerDatagram {
                relay,
                peer,
                length,
            } => return self.peer_datagram(now, relay, peer, length),
            Input::PeerAccepted { relay, peer } => return self.peer_accepted(now, relay, peer),
            Input::PeerIcmp {
                relay,
                peer,
                icmp_type,
                code,
                error_data,
            } => self.peer_icmp(
                now,
                relay,
                peer,
                Icmp {
                    icmp_type,
                    code,
                    error_data,
                },
            ),
            Input::RelayBound { relay, result } => self.relay_bound(now, relay, result),
            Input::StreamOpened { stream, client } => self.stream_opened(now, stream, client),
            Input::PathClosed(path) => self.path_closed(now, path),
            Input::PeerConnected { connection, result } => {
                self.peer_connected(now, connection, result);
            }
            Input::PeerClosed(connection) => self.peer_closed(connection),
            Input::Drain => self.draining = true,
            Input::ConfigChanged(config) => self.change_config(now, config),
        }
        Handled::Done
    }

    /// What is to be done next. Messages are written into `buffer`, which has at least [`MIN_BUFFER`] bytes.
    pub fn poll(&mut self, now: Time, buffer: &mut [u8]) -> Output {
        loop {
            if let Some(output) = self.next_queued(buffer) {
                return output;
            }
            let Some(timer) = self.timers.pop(now) else {
                return Output::Idle(self.timers.next());
            };
            match timer {
                Timer::Relay(relay) => self.relay_expired(now, relay),
                Timer::Stream(stream) => self.stream_expired(now, stream),
                Timer::Connection(connection) => self.connection_expired(connection),
                Timer::Reservation(token) => self.release_reservation(token, true),
            }
        }
    }

    /// What has happened so far, and how much there is now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            allocations: self.allocations.len() as u64,
            relays: self.relays.len() as u64,
            streams: self.streams.len() as u64,
            connections: self.connections.len() as u64,
            reservations: self.reservations.len() as u64,
            timers: self.timers.len() as u64,
            ..self.counters
        }
    }

    fn next_queued(&mut self, buffer: &mut [u8]) -> Option<Output> {
        loop {
            let (path, written) = match self.outbox.pop()? {
                Queued::Command(command) => return Some(Output::Command(command)),
                Queued::Event(event) => return Some(Output::Event(event)),
                Queued::Answer(reply, answer) => {
                    let written = answer::write(&self.config, &reply, &answer, buffer);
                    if let (Ok(size), Some(longest)) = (written, reply.longest)
                        && size > longest
                    {
                        // Whoever forged the source of a request must not gain from it.
                        self.counters.answers_too_long += 1;
                        continue;
                    }
                    (reply.path, written)
                }
                Queued::Indication(path, id, indication) => {
                    (path, answer::write_indication(indication, id, buffer))
                }
            };
            match written {
                Ok(size) => return Some(Output::Transmit { path, size }),
                // The caller's buffer is too small.
                Err(_) => self.counters.answers_dropped += 1,
            }
        }
    }

    /// A new configuration holds for what exists, too: peers that its rule refuses, users that it does not have.
    fn change_config(&mut self, now: Time, config: Arc<ServerConfig>) {
        self.understood = config.understood();
        self.config = config;
        for (_, relay) in self.relays.iter_mut() {
            relay.peers.apply(&self.config.peer_rule);
        }
        let gone: Vec<Key> = self
            .allocations
            .iter_mut()
            .filter(|(_, allocation)| {
                let credential = &allocation.credential;
                credential.origin == credential::Origin::Static
                    && self
                        .config
                        .users
                        .find(&credential.username, credential.algorithm)
                        .is_none()
            })
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            self.end_allocation(now, key, EndReason::UserRemoved);
        }
        let forbidden = self.forbidden_connections();
        for connection in forbidden {
            self.end_connection(connection, true);
        }
    }

    /// The client at the other end of a path, as the socket gives it.
    fn client_of(&self, path: Path) -> Option<SocketAddr> {
        match path {
            Path::Datagram { client, .. } => Some(client),
            Path::Stream(stream) => self.streams.get(&stream).map(|state| state.client),
        }
    }

    fn transaction_id(&mut self) -> TransactionId {
        TransactionId::new(self.random())
    }

    fn random<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

/// Keys of SipHash, so that nobody outside can make entries collide.
#[derive(Clone, Copy, Debug)]
struct Keys(u64, u64);

impl BuildHasher for Keys {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
