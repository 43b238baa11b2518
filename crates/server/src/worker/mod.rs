//! The workers that relay: one thread each, with a core of the relay, sockets and connections of its own.
//!
//! A worker shares with the others what is in [`Shared`], and locks nothing of it for a packet. What belongs to
//! another core goes there by [`handover`]. All of a worker's tasks run on its one thread, so its parts are in cells.
//!
//! | file | what lives there |
//! |---|---|
//! | `thread` | a worker's beginning and end |
//! | `clients` | datagrams of clients: the way to a peer |
//! | `relays` | relayed transport addresses over UDP: the way to a client |
//! | `accept`, `streams` | clients on TCP and TLS |
//! | `dtls` | clients on DTLS |
//! | `peers` | connections to and from peers (RFC 6062) |
//! | `commands` | what the core wants done |
//! | `handover` | what one worker gives another |
//! | `batch`, `send` | many datagrams in one system call |
//! | `marks` | DSCP and ECN of what comes in |
//! | `options` | what only Linux has |

use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use nilas_net::{TrafficClass, Watched};
use nilas_turn::Time;
use nilas_turn::server::{
    Common, ConnectionId, Counters as TurnCounters, Handled, Input, ListenerId, MIN_BUFFER, Output,
    Path, StreamId, WorkerId,
};
use quinn_udp::UdpSocketState;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{Notify, mpsc};

use self::batch::{Destination, Inbound, Runs};
use self::dtls::{Dtls, dtls_listener};
use self::handover::{Mailbox, Order};
use self::marks::Marks;
use self::peers::Peer;
use self::relays::RelayTable;
use self::send::Way;
use self::streams::Outgoing;
use crate::admission::Admission;
use crate::clock::Clock;
use crate::config::RelayAddress;
use crate::counters::Counters;
use crate::ports::Ports;
use crate::web::Web;

mod accept;
mod batch;
mod clients;
mod commands;
mod dtls;
pub(crate) mod handover;
mod marks;
mod options;
mod peers;
mod relays;
mod send;
mod streams;
pub(crate) mod thread;

pub(crate) use self::accept::{PROTOCOLS, Tls};
pub(crate) use self::options::DONT_FRAGMENT;

/// What the workers of a server share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) common: Arc<Common>,
    pub(crate) ports: Arc<Ports>,
    /// The addresses that relayed transport addresses are on.
    pub(crate) relay_addresses: Vec<RelayAddress>,
    pub(crate) counters: Arc<Counters>,
    /// What each core has counted, as it last said.
    pub(crate) published: Vec<Mutex<TurnCounters>>,
    /// How to reach each worker.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// How many clients there may be on TCP, TLS and DTLS.
    pub(crate) admission: Admission,
    /// How long a client on TCP may take to say what it speaks.
    pub(crate) idle_time: Mutex<Duration>,
    /// How long a message may take from its first byte to its last, in either direction, and a handshake as a whole.
    pub(crate) message_time: Duration,
    pub(crate) tls: Option<Tls>,
}

impl Shared {
    fn idle_time(&self) -> Duration {
        *self
            .idle_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What all cores have counted.
    pub(crate) fn turn_counters(&self) -> TurnCounters {
        let mut sum = TurnCounters::default();
        for counters in &self.published {
            sum += *counters.lock().unwrap_or_else(PoisonError::into_inner);
        }
        sum
    }
}

/// A worker, on its own thread.
struct Worker {
    id: WorkerId,
    shared: Arc<Shared>,
    core: RefCell<nilas_turn::server::Server>,
    rng: RefCell<ChaCha12Rng>,
    listeners: Vec<Listener>,
    /// How sockets of relays are sent on and received from.
    relay_state: UdpSocketState,
    relays: RefCell<RelayTable>,
    streams: RefCell<HashMap<StreamId, Rc<Outgoing>>>,
    next_stream: Cell<u64>,
    /// Connections to and from peers.
    peers: RefCell<HashMap<ConnectionId, Peer>>,
    /// What serves HTTP inside TLS, until the server ends.
    web: RefCell<Option<Web>>,
    /// Paths of other workers' DTLS sessions on which allocations of this core are.
    foreign: RefCell<HashMap<Path, WorkerId>>,
    /// The one that a letter has just come on.
    visiting: Cell<Option<(Path, WorkerId)>>,
    /// Paths that belong to another core (RFC 8016: a client has moved).
    routes: RefCell<HashMap<Path, WorkerId>>,
    orders: RefCell<mpsc::UnboundedReceiver<Order>>,
    stopped: Cell<bool>,
    inbound: RefCell<Inbound>,
    /// What streams are read into.
    scratch: RefCell<Vec<u8>>,
    runs: RefCell<Runs>,
    /// Room for what the core writes.
    answer: RefCell<Box<[u8; MIN_BUFFER]>>,
    /// When the core wants to be asked again.
    deadline: Cell<Option<Time>>,
    /// The deadline has come nearer.
    hurried: Notify,
}

/// A UDP socket for clients. Each worker has one of its own for each address.
struct Listener {
    socket: Watched,
    state: UdpSocketState,
    segments: Cell<usize>,
    local: SocketAddr,
    marks: Marks,
    dtls: Option<Dtls>,
}

impl Listener {
    /// The address of this machine that a client sent to.
    fn server_address(&self, to: Option<IpAddr>) -> SocketAddr {
        match to {
            Some(ip) if self.local.ip().is_unspecified() => SocketAddr::new(ip, self.local.port()),
            _ => self.local,
        }
    }
}

/// How a client is reached.
enum WayTo {
    Udp(Destination),
    /// By the session that this client has on this listener.
    Dtls(usize, SocketAddr),
    Stream(StreamId),
}

/// Padding.
const ZEROS: [u8; 3] = [0; 3];

impl Worker {
    /// Does what the core says about something that was relayed. `bytes` are those of the input. `class` is how the
    /// input was marked, and what leaves is marked so, too (RFC 8656 sections 13 and 14).
    fn act(self: &Rc<Self>, handled: Handled, path: Path, bytes: &[u8], class: TrafficClass) {
        match handled {
            Handled::ToPeer {
                relay,
                peer,
                payload,
                dont_fragment,
            } => {
                let destination = Destination::Peer {
                    relay,
                    peer,
                    dont_fragment,
                    class,
                };
                self.append(destination, &[], &bytes[payload], 0);
            }
            Handled::ToClient {
                path,
                head,
                payload,
                tail,
            } => {
                let tail = &ZEROS[..usize::from(tail).min(ZEROS.len())];
                self.to_client(path, [head.as_bytes(), &bytes[payload], tail], class);
            }
            Handled::Elsewhere(worker) => self.hand_over(worker, path, bytes, class),
            _ => {}
        }
    }

    /// Sends data to a client: what stands in front of it, itself, and the padding.
    fn to_client(&self, path: Path, parts: [&[u8]; 3], class: TrafficClass) {
        match self.way_to(path, class) {
            Some(WayTo::Udp(destination)) => {
                let [head, data, tail] = parts;
                self.append(destination, head, data, tail.len());
            }
            Some(WayTo::Dtls(index, client)) => {
                let sent = self.send_dtls(index, client, parts, class);
                if !sent {
                    self.send_abroad(path, &parts.concat(), class);
                }
            }
            // RFC 8656 section 16: a stream has a mark of its own.
            Some(WayTo::Stream(stream)) => self.to_stream(stream, parts),
            None => {}
        }
    }

    /// Sends an answer or an indication of the core's to a client.
    fn transmit(&self, path: Path, bytes: &[u8]) {
        let class = TrafficClass::NONE;
        match self.way_to(path, class) {
            Some(WayTo::Udp(destination)) => {
                let unsent = self.send(destination, bytes, bytes.len());
                self.shared.counters.udp_not_sent.add(unsent);
                self.shared.counters.udp_answered.add(1 - unsent.min(1));
            }
            Some(WayTo::Dtls(index, client)) => {
                let parts = [bytes, &[], &[]];
                if !self.send_dtls(index, client, parts, class) {
                    self.send_abroad(path, bytes, class);
                }
            }
            Some(WayTo::Stream(stream)) => self.answer_stream(stream, bytes),
            None => {}
        }
    }

    fn way_to(&self, path: Path, class: TrafficClass) -> Option<WayTo> {
        let (listener, client, server) = match path {
            Path::Datagram {
                listener,
                client,
                server,
            } => (listener, client, server),
            Path::Stream(stream) => return Some(WayTo::Stream(stream)),
        };
        if let Some(index) = dtls_listener(listener) {
            return Some(WayTo::Dtls(index, client));
        }
        let local = self.listener(listener)?.local;
        Some(WayTo::Udp(Destination::Client {
            listener,
            client,
            from: local.ip().is_unspecified().then_some(server.ip()),
            class,
        }))
    }

    /// Tells the core something, and does what it wants then.
    fn tell_core(self: &Rc<Self>, input: Input<'_>) {
        let now = self.shared.clock.now();
        let _ = self.core.borrow_mut().handle(now, input);
        self.pump(now);
    }

    fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.0 as usize)
    }

    /// Adds a datagram to those that wait to be sent.
    fn append(&self, destination: Destination, head: &[u8], data: &[u8], tail: usize) {
        let mut runs = self.runs.borrow_mut();
        runs.push(
            destination,
            [head, data],
            tail,
            &mut |to, bytes, segment| {
                self.send_run(to, bytes, segment);
            },
        );
    }

    /// Sends what waits to be sent.
    fn flush(&self) {
        let mut runs = self.runs.borrow_mut();
        runs.flush(&mut |to, bytes, segment| self.send_run(to, bytes, segment));
    }

    fn send_run(&self, destination: Destination, bytes: &[u8], segment: usize) {
        let unsent = self.send(destination, bytes, segment);
        self.shared.counters.relay_not_sent.add(unsent);
    }

    /// Sends datagrams of one length. Says how many the system did not take.
    fn send(&self, destination: Destination, bytes: &[u8], segment: usize) -> u64 {
        match destination {
            Destination::Client {
                listener,
                client,
                from,
                class,
            } => self.listener(listener).map_or(0, |listener| {
                let way = Way {
                    socket: listener.socket.socket(),
                    state: &listener.state,
                    segments: &listener.segments,
                    from,
                    to: client,
                    class,
                };
                way.send(bytes, segment)
            }),
            Destination::Peer {
                relay,
                peer,
                dont_fragment,
                class,
            } => self.relays.borrow().udp(relay).map_or(0, |relay| {
                relay.allow_fragments(!dont_fragment);
                let way = relay.way(&self.relay_state, peer, class);
                way.send(bytes, segment)
            }),
        }
    }

    /// Does all that the core wants, and notes when to ask again.
    fn pump(self: &Rc<Self>, now: Time) {
        self.publish();
        let mut answer = self.answer.borrow_mut();
        let mut changed = false;
        loop {
            let output = self.core.borrow_mut().poll(now, &mut answer[..]);
            match output {
                Output::Transmit { path, size } => self.transmit(path, &answer[..size]),
                Output::Command(command) => {
                    changed = true;
                    self.obey(now, command);
                }
                Output::Event(event) => {
                    changed = true;
                    commands::tell(&event);
                }
                Output::Idle(deadline) => {
                    self.await_deadline(deadline);
                    break;
                }
                _ => {}
            }
        }
        if changed {
            self.publish();
        }
    }

    fn await_deadline(&self, deadline: Option<Time>) {
        let before = self.deadline.replace(deadline);
        let nearer = match (before, deadline) {
            (Some(before), Some(deadline)) => deadline < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if nearer {
            self.hurried.notify_one();
        }
    }

    /// Lets the operator see what the core has counted. Nobody else takes this lock but who looks.
    fn publish(&self) {
        if let Some(published) = self.shared.published.get(usize::from(self.id.0)) {
            let counters = self.core.borrow().counters();
            *published.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        }
    }
}
