//! What the owner of an allocation and its task have in common.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nilas_turn::Time;
use nilas_turn::client::{Client, ClientEvent, Failure};
use tokio::sync::{Notify, watch};

use super::RelayError;
use super::link::LinkSender;
use crate::Clock;

/// No request of a client is longer: a user name has at most 513 bytes, a realm and a nonce 763 each.
const REQUEST_BYTES: usize = 4096;
/// As many peers as the client's core keeps; of more, refusals are not remembered.
const MAX_REFUSED: usize = 256;

pub(super) struct Shared {
    core: Mutex<Core>,
    clock: Clock,
    /// Told when an allocation, a permission or a channel came or went.
    pub(super) changed: watch::Sender<()>,
    /// Told when the task has to look again.
    pub(super) wake: Notify,
    /// Data that found no room with its owner.
    pub(super) dropped: AtomicU64,
}

/// The protocol, and the way to the server.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) client: Client,
    pub(super) link: LinkSender,
    /// The server's address, for errors.
    pub(super) server: SocketAddr,
    pub(super) mapped: Option<SocketAddr>,
    /// Peers that the server refused, with the code.
    pub(super) refused: Vec<(SocketAddr, u16)>,
    pub(super) redirected: Option<(SocketAddr, Option<String>)>,
    /// Why there is no allocation and will be none.
    pub(super) ended: Option<RelayError>,
    /// How many allocations there have been.
    pub(super) allocations: u64,
}

impl Shared {
    pub(super) fn new(client: Client, link: LinkSender, server: SocketAddr) -> Self {
        Self {
            core: Mutex::new(Core {
                client,
                link,
                server,
                mapped: None,
                refused: Vec::new(),
                redirected: None,
                ended: None,
                allocations: 0,
            }),
            clock: Clock::start(),
            changed: watch::Sender::new(()),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        // A panic while it was held leaves the protocol's state as it was between two of its steps.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(self.clock.now().as_nanos())
    }

    pub(super) fn instant(&self, time: Time) -> tokio::time::Instant {
        let time = Time::from_nanos(time.as_nanos());
        self.clock.instant(time).into()
    }

    /// Sends what the client has to send, and notes what it tells. True if anything was told.
    pub(super) fn pump(&self, core: &mut Core) -> bool {
        let now = self.now();
        let mut buffer = [0; REQUEST_BYTES];
        while let Some(length) = core.client.poll(now, &mut buffer) {
            // What cannot leave now is lost: on UDP it is sent again, and a stream has room kept for requests.
            if let Err(error) = core.link.send(&buffer[..length], true) {
                core.cannot_send(error);
            }
        }
        let mut told = false;
        while let Some(event) = core.client.poll_event() {
            told = true;
            core.note(event);
        }
        if told {
            self.changed.send_replace(());
        }
        told
    }
}

impl Core {
    fn note(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Allocated { mapped, .. } => {
                self.mapped = Some(mapped);
                self.allocations += 1;
                // RFC 8656 section 9: what another server, or the same one started anew, refuses is its own.
                self.refused.clear();
            }
            ClientEvent::PeerRefused { peer, code } if self.refused.len() < MAX_REFUSED => {
                self.refused.push((peer, code));
            }
            ClientEvent::Redirected { server, domain } => {
                self.redirected = Some((server, domain));
                self.end(RelayError::Redirected {
                    server: self.server,
                    to: server,
                });
            }
            ClientEvent::Failed(Failure::Timeout) => self.end(RelayError::TimedOut {
                server: self.server,
            }),
            ClientEvent::Failed(failure) => self.end(RelayError::Allocate {
                server: self.server,
                failure,
            }),
            ClientEvent::Released => self.end(RelayError::Released),
            _ => {}
        }
    }

    /// Until there was an allocation, a network that cannot be sent to is the reason for there being none.
    fn cannot_send(&mut self, error: io::Error) {
        if self.allocations == 0 && error.kind() != io::ErrorKind::WouldBlock {
            let LinkSender::Udp(..) = self.link else {
                // The reader of the stream says what happened to it.
                return;
            };
            self.end(RelayError::Socket {
                server: self.server,
                error: error.into(),
            });
        }
    }

    /// The first reason stays.
    pub(super) fn end(&mut self, error: RelayError) {
        self.ended.get_or_insert(error);
    }
}
