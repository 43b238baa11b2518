//! An allocation (RFC 8656 section 6): from its first relayed transport address to its end.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use nilas_stun::{AddressFamily, ErrorCode, TransactionId};

use super::Server;
use super::answer::{Allocated, Answer, Reply};
use super::credential::Credential;
use super::event::{EndReason, Event, Traffic};
use super::io::{AllocationId, BindError, Command, ConnectionId, Path, RelayId, RelayProtocol};
use super::mobility::{Mobility, Ticket, TicketContents};
use super::quota::Charge;
use super::timers::Timer;
use crate::arena::Key;
use crate::time::Time;

/// What the server knows about an allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    /// Where its client is; nothing while a client that can move is away.
    pub(super) path: Option<Path>,
    /// Whose it is.
    pub(super) credential: Arc<Credential>,
    /// Paid for until this is dropped, and it is dropped with the allocation.
    pub(super) charge: Charge,
    /// The relayed transport addresses, the IPv4 one first.
    pub(super) relays: [Option<Key>; 2],
    /// Of the Allocate request, to know its retransmissions.
    pub(super) transaction: TransactionId,
    /// The Allocate request that waits for relayed transport addresses to be bound.
    pub(super) pending: Option<Box<PendingAllocate>>,
    /// The family that could not be had, and why.
    pub(super) missing: Option<(AddressFamily, u16)>,
    /// The port next to the relayed one that was reserved.
    pub(super) reservation: Option<[u8; 8]>,
    /// For a client that may go on from another address.
    pub(super) mobility: Option<Box<Mobility>>,
    /// Whether `path` is one that the client has moved to.
    pub(super) moved: bool,
    /// Connections to peers (RFC 6062).
    pub(super) connections: Vec<Key>,
    pub(super) traffic: Traffic,
    pub(super) made: Time,
}

/// An Allocate request that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingAllocate {
    pub(super) reply: Reply,
    /// How many relayed transport addresses are still to be bound.
    pub(super) waiting: u8,
    pub(super) lifetime: Duration,
}

/// The place of a family in [`Allocation::relays`].
pub(super) const fn place_of(family: AddressFamily) -> usize {
    match family {
        AddressFamily::Ipv4 => 0,
        AddressFamily::Ipv6 => 1,
    }
}

impl Server {
    /// A relayed transport address is bound, or is not to be had.
    pub(super) fn relay_bound(
        &mut self,
        now: Time,
        relay: RelayId,
        result: Result<SocketAddr, BindError>,
    ) {
        // One that was given up meanwhile has been closed by a command.
        let Some(state) = self.relays.get_mut(relay.0) else {
            return;
        };
        let key = state.allocation;
        let (family, protocol) = (state.family, state.protocol);
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let Some(pending) = &mut allocation.pending else {
            return;
        };
        pending.waiting = pending.waiting.saturating_sub(1);
        let finished = pending.waiting == 0;
        match result {
            Ok(address) => {
                let address = canonical(address);
                state.address = Some(address);
                if protocol == RelayProtocol::Udp {
                    self.relay_addresses.insert(address, relay.0);
                }
            }
            Err(_) => {
                allocation.relays[place_of(family)] = None;
                allocation.missing = Some((family, ErrorCode::INSUFFICIENT_CAPACITY.code()));
                if let Some(token) = allocation.reservation.take() {
                    self.release_reservation(token, false);
                }
                self.relays.remove(relay.0);
            }
        }
        if finished {
            self.finish_allocate(now, key);
        }
    }

    /// Every relayed transport address is there or is not to be had: the client gets its answer.
    fn finish_allocate(&mut self, now: Time, key: Key) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let Some(pending) = allocation.pending.take() else {
            return;
        };
        if allocation.relays == [None, None] {
            // RFC 8656 section 7.2: 508 if none can be had.
            self.counters.no_capacity += 1;
            let answer = Answer::Error(ErrorCode::INSUFFICIENT_CAPACITY);
            self.outbox
                .answer(&mut self.counters, pending.reply, answer);
            self.forget_allocation(now, key);
            return;
        }
        let expires = now + pending.lifetime;
        for relay in allocation.relays.into_iter().flatten() {
            if let Some(relay_state) = self.relays.get_mut(relay) {
                relay_state.expires = Some(expires);
                self.timers.set(expires, Timer::Relay(relay));
            }
        }
        self.counters.allocations_made += 1;
        if let Some(Path::Stream(stream)) = self.allocations.get(key).and_then(|a| a.path) {
            self.stop_stream_patience(stream);
        }
        let Some(allocated) = self.allocated(now, key) else {
            return;
        };
        if let Some(allocation) = self.allocations.get(key) {
            self.outbox.event(Event::AllocationMade {
                allocation: AllocationId(key),
                user: Arc::clone(allocation.charge.user()),
                client: allocated.mapped,
                relayed: allocated.relayed,
            });
        }
        self.outbox.answer(
            &mut self.counters,
            pending.reply,
            Answer::Allocated(allocated),
        );
    }

    /// What an Allocate request is answered with, the first time and each time that it is sent again.
    pub(super) fn allocated(&mut self, now: Time, key: Key) -> Option<Allocated> {
        let allocation = self.allocations.get(key)?;
        let mut relayed = [None; 2];
        let mut lifetime = Duration::ZERO;
        for (place, relay) in allocation.relays.iter().enumerate() {
            if let Some(relay) = relay.and_then(|relay| self.relays.get(relay)) {
                relayed[place] = relay.address;
                // RFC 8656 section 7.2: what is left of it.
                lifetime = lifetime.max(relay.expires.unwrap_or(now).since(now));
            }
        }
        let mapped = self.client_of(allocation.path?)?;
        let missing = allocation.missing.map(|(family, code)| {
            let error = if code == ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED.code() {
                ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED
            } else {
                ErrorCode::INSUFFICIENT_CAPACITY
            };
            (family, error)
        });
        let token = allocation.reservation;
        let ticket = self.ticket(key);
        Some(Allocated {
            relayed,
            missing,
            lifetime: whole_seconds(lifetime),
            mapped: canonical(mapped),
            token,
            ticket,
        })
    }

    /// The present ticket of a client that may move.
    pub(super) fn ticket(&mut self, key: Key) -> Option<Ticket> {
        let serial = self.allocations.get(key)?.mobility.as_ref()?.serial;
        let contents = TicketContents {
            worker: self.worker,
            allocation: key,
            serial,
        };
        let nonce = self.random();
        self.common.ticket_key.seal(contents, nonce)
    }

    /// A relayed transport address was not refreshed in time.
    pub(super) fn relay_expired(&mut self, now: Time, relay: Key) {
        if let Some(state) = self.relays.get_mut(relay) {
            // Its timer is what has just gone off.
            state.expires = None;
            self.end_relay(now, relay, EndReason::Expired);
        }
    }

    /// Ends one relayed transport address, and its allocation if it was the last.
    pub(super) fn end_relay(&mut self, now: Time, relay: Key, reason: EndReason) {
        let Some(state) = self.relays.get(relay) else {
            return;
        };
        let (key, place) = (state.allocation, place_of(state.family));
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.relays[1 - place].is_none() {
            self.end_allocation(now, key, reason);
            return;
        }
        allocation.relays[place] = None;
        self.close_relay(relay);
        self.close_connections_of(key, Some(relay));
    }

    /// Ends an allocation, and all that hangs on it.
    pub(super) fn end_allocation(&mut self, now: Time, key: Key, reason: EndReason) {
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        if allocation.pending.is_none() {
            self.outbox.event(Event::AllocationEnded {
                allocation: AllocationId(key),
                user: Arc::clone(allocation.charge.user()),
                reason,
                age: now.since(allocation.made),
                traffic: allocation.traffic,
            });
        }
        self.forget_allocation(now, key);
    }

    /// Frees all that an allocation has. The quota is paid back here, and nowhere before.
    fn forget_allocation(&mut self, now: Time, key: Key) {
        self.close_connections_of(key, None);
        let Some(mut allocation) = self.allocations.remove(key) else {
            return;
        };
        for relay in allocation.relays.into_iter().flatten() {
            self.close_relay(relay);
        }
        if let Some(path) = allocation.path.take() {
            self.forget_path(now, path, allocation.moved);
        }
        if let Some(next) = allocation
            .mobility
            .take()
            .and_then(|mobility| mobility.next_path)
        {
            self.forget_path(now, next, true);
        }
    }

    fn close_relay(&mut self, relay: Key) {
        let Some(state) = self.relays.remove(relay) else {
            return;
        };
        if let Some(expires) = state.expires {
            self.timers.cancel(expires, Timer::Relay(relay));
        }
        if let Some(address) = state.address
            && self.relay_addresses.get(&address) == Some(&relay)
        {
            self.relay_addresses.remove(&address);
        }
        self.outbox.command(Command::CloseRelay(RelayId(relay)));
    }

    /// Nothing more comes to an allocation on this path.
    pub(super) fn forget_path(&mut self, now: Time, path: Path, moved: bool) {
        self.paths.remove(&path);
        if moved {
            self.outbox.command(Command::Unroute(path));
        }
        if let Path::Stream(stream) = path {
            self.start_stream_patience(now, stream);
        }
    }

    /// A port that was reserved is not kept any more: its token has been used up, or nobody came with it.
    pub(super) fn release_reservation(&mut self, token: [u8; 8], expired: bool) {
        let Some(reservation) = self.reservations.remove(&token) else {
            return;
        };
        if !expired {
            self.timers
                .cancel(reservation.until, Timer::Reservation(token));
        }
        self.outbox.command(Command::ReleaseReservation(token));
    }

    /// The port of a reservation becomes an allocation's, which pays for it from now on.
    pub(super) fn redeem_reservation(&mut self, token: [u8; 8]) {
        if let Some(reservation) = self.reservations.remove(&token) {
            self.timers
                .cancel(reservation.until, Timer::Reservation(token));
        }
    }

    /// A 5-tuple is gone.
    pub(super) fn path_closed(&mut self, now: Time, path: Path) {
        let key = self.paths.remove(&path);
        if let Path::Stream(stream) = path {
            self.forget_stream(stream);
        }
        let Some(key) = key else { return };
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        if allocation.path != Some(path) {
            // The one that the client was to move to.
            if let Some(mobility) = &mut allocation.mobility {
                mobility.next_path = None;
            }
            self.outbox.command(Command::Unroute(path));
            return;
        }
        if allocation.moved {
            self.outbox.command(Command::Unroute(path));
        }
        match &allocation.mobility {
            // RFC 8016 section 3.2.2: when the old connection is closed, the new 5-tuple takes over.
            Some(mobility) if mobility.next_path.is_some() => self.complete_move(now, key),
            // RFC 8016 section 3.2.1: a client that moved breaks before it makes; its allocation waits for it.
            Some(_) => allocation.path = None,
            None => self.end_allocation(now, key, EndReason::PathClosed),
        }
    }

    /// The allocation on a path.
    pub(super) fn allocation_at(&self, path: Path) -> Option<Key> {
        self.paths.get(&path).copied()
    }

    fn close_connections_of(&mut self, key: Key, relay: Option<Key>) {
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        let connections: Vec<Key> = allocation
            .connections
            .iter()
            .copied()
            .filter(|connection| {
                relay.is_none()
                    || self
                        .connections
                        .get(*connection)
                        .is_some_and(|state| Some(state.relay) == relay)
            })
            .collect();
        for connection in connections {
            // RFC 6062 section 5.5: with the allocation, its data connections are closed.
            self.end_connection(ConnectionId(connection), true);
        }
    }
}

/// An address as such, also where it came through an IPv6 socket.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// For LIFETIME. Rounded up: a client refreshes well before.
pub(super) fn whole_seconds(lifetime: Duration) -> u32 {
    let seconds = lifetime.as_secs() + u64::from(lifetime.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
