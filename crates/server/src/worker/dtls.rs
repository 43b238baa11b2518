//! Clients on DTLS, which share a UDP socket (RFC 7350). For the core each session is a path of a listener of its own.

use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use nilas_net::TrafficClass;
use nilas_net::stream::{CertifiedKeyStore, DtlsOutput, DtlsServer};
use nilas_turn::Time;
use nilas_turn::server::{Input, ListenerId, Path};
use tokio::sync::Notify;

use super::Worker;
use super::batch::{Destination, Received};
use super::handover::Order;
use crate::admission::Permit;

/// Sets the number of a listener's DTLS apart from that of its UDP.
const DTLS: u32 = 1 << 31;
/// RFC 7983 section 7: the first bytes of DTLS.
const FIRST_BYTES: core::ops::RangeInclusive<u8> = 20..=63;

/// The DTLS sessions on one socket of one worker.
pub(super) struct Dtls {
    state: RefCell<State>,
    /// A deadline may have come nearer.
    pub(super) hurried: Notify,
}

struct State {
    server: DtlsServer,
    sessions: HashMap<SocketAddr, Session>,
    /// What the server has told while it could not be acted upon, and the bytes of it.
    told: Vec<Told>,
    plain: Vec<u8>,
}

struct Session {
    /// The address that the client sends to.
    server: SocketAddr,
    /// Its place among the connections there may be.
    _permit: Permit,
}

enum Told {
    Opened(SocketAddr),
    Data(SocketAddr, core::ops::Range<usize>),
    Closed(SocketAddr),
}

impl Dtls {
    pub(super) fn new(server: DtlsServer) -> Self {
        Self {
            state: RefCell::new(State {
                server,
                sessions: HashMap::new(),
                told: Vec::new(),
                plain: Vec::new(),
            }),
            hurried: Notify::new(),
        }
    }

    /// Shows what the store has now to the clients that come from now on.
    pub(super) fn change_certificate(&self, store: &CertifiedKeyStore) {
        let certificate = store.dtls_certificate();
        if let Err(error) = self.state.borrow_mut().server.set_certificate(certificate) {
            tracing::warn!(%error, "DTLS keeps the certificate that it has");
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.borrow().server.deadline()
    }
}

/// Whether a datagram is of DTLS.
pub(super) fn is_dtls(bytes: &[u8]) -> bool {
    bytes
        .first()
        .is_some_and(|first| FIRST_BYTES.contains(first))
}

/// The place of the listener whose DTLS this is.
pub(super) const fn dtls_listener(id: ListenerId) -> Option<usize> {
    if id.0 & DTLS == 0 {
        return None;
    }
    Some((id.0 & !DTLS) as usize)
}

impl Worker {
    /// Takes a datagram of DTLS in.
    pub(super) fn dtls_datagram(
        self: &Rc<Self>,
        now: Time,
        index: usize,
        dtls: &Dtls,
        received: &Received<'_>,
    ) {
        let arrived = (received.to, received.class);
        self.drive_dtls(now, index, dtls, arrived, |server, tell| {
            server.handle(
                Instant::now(),
                received.from,
                received.bytes,
                &mut |output| tell(output),
            );
        });
    }

    /// Does what has become due of DTLS.
    pub(super) fn dtls_timeout(self: &Rc<Self>, index: usize, dtls: &Dtls) {
        let now = self.shared.clock.now();
        let arrived = (None, TrafficClass::NONE);
        self.drive_dtls(now, index, dtls, arrived, |server, tell| {
            server.handle_timeout(Instant::now(), &mut |output| tell(output));
        });
        self.flush();
        self.pump(now);
    }

    /// Sends a message to a client on DTLS. False if it has no session here.
    pub(super) fn send_dtls(
        &self,
        index: usize,
        client: SocketAddr,
        parts: [&[u8]; 3],
        class: TrafficClass,
    ) -> bool {
        let Some(dtls) = self
            .listeners
            .get(index)
            .and_then(|listener| listener.dtls.as_ref())
        else {
            return false;
        };
        let mut state = dtls.state.borrow_mut();
        let State {
            server,
            sessions,
            told,
            ..
        } = &mut *state;
        let message = parts.concat();
        let sent = server.send(
            Instant::now(),
            client,
            &message,
            &mut |output| match output {
                DtlsOutput::Transmit { client, datagram } => {
                    let to = sessions.get(&client).map(|session| session.server.ip());
                    self.send_on(index, client, to, datagram, class);
                }
                // The session has failed; the core hears of it with the next datagram or deadline.
                DtlsOutput::Closed { client, .. } => told.push(Told::Closed(client)),
                _ => {}
            },
        );
        dtls.hurried.notify_one();
        sent
    }

    fn drive_dtls(
        self: &Rc<Self>,
        now: Time,
        index: usize,
        dtls: &Dtls,
        (to, class): (Option<IpAddr>, TrafficClass),
        drive: impl FnOnce(&mut DtlsServer, &mut dyn FnMut(DtlsOutput<'_>)),
    ) {
        let mut state = dtls.state.borrow_mut();
        let State {
            server,
            sessions,
            told,
            plain,
        } = &mut *state;
        let mut tell = |output: DtlsOutput<'_>| match output {
            DtlsOutput::Transmit { client, datagram } => {
                let known = sessions.get(&client).map(|session| session.server.ip());
                self.send_on(index, client, known.or(to), datagram, TrafficClass::NONE);
            }
            DtlsOutput::Opened { client } => told.push(Told::Opened(client)),
            DtlsOutput::Data { client, datagram } => {
                let start = plain.len();
                plain.extend_from_slice(datagram);
                told.push(Told::Data(client, start..plain.len()));
            }
            DtlsOutput::Closed { client, .. } => told.push(Told::Closed(client)),
            _ => {}
        };
        drive(server, &mut tell);
        if told.is_empty() {
            drop(state);
            dtls.hurried.notify_one();
            return;
        }
        let (mut told, mut plain) = (core::mem::take(told), core::mem::take(plain));
        drop(state);
        for told in told.drain(..) {
            match told {
                Told::Opened(client) => self.dtls_opened(index, dtls, client, to),
                Told::Data(client, range) => {
                    if let Some(path) = dtls.path(index, client) {
                        self.routed_datagram(now, path, &plain[range], class);
                    }
                }
                Told::Closed(client) => {
                    if let Some(path) = dtls.path(index, client) {
                        dtls.state.borrow_mut().sessions.remove(&client);
                        self.path_closed(path);
                    }
                }
            }
        }
        plain.clear();
        // Kept for the next: in steady state nothing is allocated.
        let mut state = dtls.state.borrow_mut();
        if state.told.is_empty() && state.plain.is_empty() {
            (state.told, state.plain) = (told, plain);
        }
        drop(state);
        dtls.hurried.notify_one();
    }

    fn dtls_opened(&self, index: usize, dtls: &Dtls, client: SocketAddr, to: Option<IpAddr>) {
        let mut state = dtls.state.borrow_mut();
        let Some(permit) = self.shared.admission.admit(client.ip().into()) else {
            self.shared.counters.tcp_refused.add(1);
            state.server.close(Instant::now(), client, &mut |output| {
                if let DtlsOutput::Transmit { client, datagram } = output {
                    self.send_on(index, client, to, datagram, TrafficClass::NONE);
                }
            });
            return;
        };
        let session = Session {
            server: self.listeners[index].server_address(to),
            _permit: permit,
        };
        state.sessions.insert(client, session);
    }

    /// A path is gone, whichever core has what was on it.
    fn path_closed(self: &Rc<Self>, path: Path) {
        let worker = self.routes.borrow().get(&path).copied();
        match worker {
            Some(worker) => {
                if let Some(mailbox) = self.shared.mailboxes.get(usize::from(worker.0)) {
                    mailbox.order(Order::PathClosed(path));
                }
            }
            None => self.tell_core(Input::PathClosed(path)),
        }
    }

    fn send_on(
        &self,
        index: usize,
        client: SocketAddr,
        to: Option<IpAddr>,
        datagram: &[u8],
        class: TrafficClass,
    ) {
        let wildcard = self.listeners[index].local.ip().is_unspecified();
        let destination = Destination::Client {
            // There are few listeners.
            listener: ListenerId(index as u32),
            client,
            from: to.filter(|_| wildcard),
            class,
        };
        let unsent = self.send(destination, datagram, datagram.len());
        self.shared.counters.udp_not_sent.add(unsent);
    }

    /// Looks at DTLS when it wants to be looked at.
    pub(super) async fn keep_dtls_time(self: Rc<Self>, index: usize) {
        let Some(dtls) = self
            .listeners
            .get(index)
            .and_then(|listener| listener.dtls.as_ref())
        else {
            return;
        };
        loop {
            let due = async {
                match dtls.deadline() {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.dtls_timeout(index, dtls),
                () = dtls.hurried.notified() => {}
            }
        }
    }
}

impl Dtls {
    /// The core's path of a client that has a session.
    fn path(&self, index: usize, client: SocketAddr) -> Option<Path> {
        let state = self.state.borrow();
        let session = state.sessions.get(&client)?;
        Some(Path::Datagram {
            // There are few listeners.
            listener: ListenerId(index as u32 | DTLS),
            client,
            server: session.server,
        })
    }
}
