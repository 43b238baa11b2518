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
//! | `commands` | what the core wants done |
//! | `handover` | what one worker gives another |
//! | `batch`, `send` | many datagrams in one system call |
//! | `options` | what only Linux has |

use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use nilas_turn::Time;
use nilas_turn::server::{
    Common, Counters as TurnCounters, Handled, Head, ListenerId, MIN_BUFFER, Output, Path, WorkerId,
};
use quinn_udp::UdpSocketState;
use rand_chacha::ChaCha12Rng;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use self::batch::{Destination, Inbound, Run};
use self::handover::Mailbox;
use self::relays::RelayTable;
use self::send::Way;
use crate::clock::Clock;
use crate::config::RelayAddress;
use crate::counters::Counters;
use crate::ports::Ports;

mod batch;
mod clients;
mod commands;
pub(crate) mod handover;
mod options;
mod relays;
mod send;
pub(crate) mod thread;

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
}

impl Shared {
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
    /// Paths that belong to another core (RFC 8016: a client has moved).
    routes: RefCell<HashMap<Path, WorkerId>>,
    inbound: RefCell<Inbound>,
    run: RefCell<Run>,
    /// Room for what the core writes.
    answer: RefCell<Box<[u8; MIN_BUFFER]>>,
    /// When the core wants to be asked again.
    deadline: Cell<Option<Time>>,
    /// The deadline has come nearer.
    hurried: Notify,
}

/// A UDP socket for clients. Each worker has one of its own for each address.
struct Listener {
    socket: UdpSocket,
    state: UdpSocketState,
    segments: Cell<bool>,
    local: SocketAddr,
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

impl Worker {
    /// Does what the core says about something that was relayed. `bytes` are those of the input.
    fn act(self: &Rc<Self>, handled: Handled, path: Path, bytes: &[u8]) {
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
                };
                self.append(destination, &[], &bytes[payload], 0);
            }
            Handled::ToClient {
                path,
                head,
                payload,
                tail,
            } => self.to_client(path, &head, &bytes[payload], usize::from(tail)),
            Handled::Elsewhere(worker) => self.hand_over(worker, path, bytes),
            _ => {}
        }
    }

    /// Sends data to a client.
    fn to_client(&self, path: Path, head: &Head, data: &[u8], tail: usize) {
        if let Some(destination) = self.client_destination(path) {
            self.append(destination, head.as_bytes(), data, tail);
        }
    }

    /// Sends an answer or an indication of the core's to a client.
    fn transmit(&self, path: Path, bytes: &[u8]) {
        if let Some(destination) = self.client_destination(path) {
            let unsent = self.send(destination, bytes, bytes.len());
            self.shared.counters.udp_not_sent.add(unsent);
            self.shared.counters.udp_answered.add(1 - unsent.min(1));
        }
    }

    fn client_destination(&self, path: Path) -> Option<Destination> {
        let Path::Datagram {
            listener,
            client,
            server,
        } = path
        else {
            return None;
        };
        let local = self.listener(listener)?.local;
        Some(Destination::Client {
            listener,
            client,
            from: local.ip().is_unspecified().then_some(server.ip()),
        })
    }

    fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.0 as usize)
    }

    /// Adds a datagram to the run that is being made, which is sent first if it is another one.
    fn append(&self, destination: Destination, head: &[u8], data: &[u8], tail: usize) {
        let length = head.len() + data.len() + tail;
        if !self.run.borrow().takes(destination, length) {
            self.flush();
        }
        self.run.borrow_mut().push(destination, head, data, tail);
    }

    /// Sends the run that is being made.
    fn flush(&self) {
        let mut run = self.run.borrow_mut();
        if let Some((destination, bytes, segment)) = run.contents() {
            let unsent = self.send(destination, bytes, segment);
            self.shared.counters.relay_not_sent.add(unsent);
        }
        run.clear();
    }

    /// Sends datagrams of one length. Says how many the system did not take.
    fn send(&self, destination: Destination, bytes: &[u8], segment: usize) -> u64 {
        match destination {
            Destination::Client {
                listener,
                client,
                from,
            } => self.listener(listener).map_or(0, |listener| {
                let way = Way {
                    socket: &listener.socket,
                    state: &listener.state,
                    segments: &listener.segments,
                    from,
                    to: client,
                };
                way.send(bytes, segment)
            }),
            Destination::Peer {
                relay,
                peer,
                dont_fragment,
            } => self.relays.borrow().udp(relay).map_or(0, |relay| {
                relay.send(&self.relay_state, peer, dont_fragment, bytes, segment)
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
