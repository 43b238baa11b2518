//! A lite agent (RFC 8445 sections 2.5, 5.2, 6.2, 7.3.2 and 8.2).
//!
//! It has host candidates only and answers checks; it never sends one, neither to find a path nor for consent. The
//! full peer controls, and the pair that it nominated last carries the data: a full peer that moves the data to
//! another pair nominates that one, too. Where the peer is lite as well, nobody checks anything: the pair of the
//! highest priority is taken as it is told, and both sides find the same one, because they order pairs alike.
//!
//! RFC 7675 has consent asked for by full agents alone, so nothing tells a lite one that its peer is gone, except
//! the absence of what came regularly: where the peer's checks have renewed its consent and cease, the agent is
//! **disconnected** 16 seconds after the last of them, more than two consent checks, and has **failed** after 30.
//! The next check brings the path back. It is disconnected as well while the connection of a path over TCP is broken,
//! for then it can send nothing, and has failed where no other was opened for 30 seconds.

use core::net::SocketAddr;
use core::time::Duration;

use nilas_stun::{Class, MessageBuilder, Method};
use nilas_turn::Time;

use super::Agent;
use super::generation::Generation;
use super::pair::PairId;
use super::trickle::{plain, scoped};
use crate::event::{Event, GatheringState, State};
use crate::path::Departure;
use crate::shared::Shared;
use crate::stats::PairState;

/// RFC 8445 section 11: Tr. A path on which nothing was sent for so long gets a keepalive.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);
/// A peer that asks for consent every 6 seconds at the latest has missed two turns.
const SILENT: Duration = Duration::from_secs(16);
/// RFC 7675 section 5.1: the peer's consent has expired by now.
const GONE: Duration = Duration::from_secs(30);
/// So many checks of the selected pair, at least this long apart, and the peer is one that renews consent.
const RENEWALS: u8 = 3;
const APART: Duration = Duration::from_secs(2);

impl Agent {
    /// Whether neither side checks.
    fn is_unchecked(&self) -> bool {
        let remote = self.current.remote.as_ref();
        self.lite && remote.is_some_and(|remote| remote.lite)
    }

    /// Whether it is the peer's to check.
    pub(super) fn waits_for_checks(&self) -> bool {
        self.lite && !self.is_unchecked()
    }

    /// Whether candidates are paired as they are told: a lite agent leaves it to a full peer.
    pub(super) fn pairs_by_itself(&self) -> bool {
        !self.waits_for_checks()
    }

    /// RFC 8445 section 7.3.2: the peer has nominated the pair of this check.
    ///
    /// RFC 8445 has it nominate once. An older peer may nominate several, and ones that move their data do it again:
    /// the latest stands.
    pub(super) fn nominated_by_peer(&mut self, shared: &mut Shared, now: Time, id: PairId) {
        let Some(socket) = self.current.pairs.get(id).map(|pair| pair.socket) else {
            return;
        };
        let base = plain(self.sockets[usize::from(socket)].address);
        let local = self.local_of(socket, base);
        let mut is_new = false;
        for (other, pair) in self.current.pairs.iter_mut() {
            is_new |= other == id && !pair.nominated;
            pair.nominated = other == id;
            if other == id {
                pair.state = PairState::Succeeded;
                pair.valid_local = Some(local);
            }
        }
        self.conclude_lite(shared);
        self.select(shared, now);
        if is_new && let Some(pair) = self.selected_pair() {
            self.emit(shared, Event::Nominated(pair));
        }
        self.update_state(shared, now);
    }

    fn conclude_lite(&mut self, shared: &mut Shared) {
        if !self.current.concluded {
            self.current.concluded = true;
            self.end_previous(shared);
        }
    }

    /// A check of the peer has come: if it is of the path that carries the data, the peer is there.
    pub(super) fn peer_is_alive(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        socket: u16,
        remote: SocketAddr,
    ) {
        let Some(own) = self.carrier_mut().filter(|own| own.number == generation) else {
            return;
        };
        let selected = own.selected.and_then(|id| own.pairs.get(id));
        let is_selected = selected
            .is_some_and(|pair| pair.socket == socket && own.remote_address(pair) == plain(remote));
        if let Some(consent) = own.consent.as_mut().filter(|_| is_selected) {
            let is_renewed = now.since(consent.confirmed_at) >= APART;
            consent.confirmed_at = now;
            self.renewals = self.renewals.saturating_add(u8::from(is_renewed));
            if self.state == State::Failed || self.awaits_connection() {
                self.publish(now);
            }
            self.update_state(shared, now);
        }
    }

    /// Takes pairs that nobody checks, looks whether the peer is there, and keeps the path alive.
    pub(super) fn fire_lite(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        self.take_unchecked_pairs(shared, now);
        self.update_state(shared, now);
        if self.lite_keepalive().is_none_or(|at| at > now) {
            return None;
        }
        // Whatever was sent since keeps it alive as well: data, and answers to checks.
        let sent = self.path.last_sent();
        let generation = self.carrier_mut()?;
        let consent = generation.consent.as_mut()?;
        let next = sent.max(consent.confirmed_at) + KEEPALIVE;
        consent.next_request = if next > now { next } else { now + KEEPALIVE };
        if next > now {
            return None;
        }
        let pair = generation.pairs.get(generation.selected?)?;
        let (socket, remote) = (pair.socket, generation.remote_address(pair));
        let destination = scoped(remote, self.sockets[usize::from(socket)].address);
        let (via, _) = self.route(now, socket, destination)?;
        // RFC 8445 section 11: FINGERPRINT and nothing else. It can only fail for lack of room.
        let id = shared
            .demux
            .transaction_id(&mut shared.source, self.id.0.slot);
        let mut message =
            MessageBuilder::new(buffer, Class::Indication, Method::BINDING, id).ok()?;
        message.fingerprint().ok()?;
        let size = message.finish();
        Some(Departure { via, size })
    }

    /// When `fire_lite` has something to do.
    pub(super) fn lite_deadline(&self) -> Option<Time> {
        if self.is_unchecked() && (self.has_untaken_pair() || self.may_conclude_unchecked()) {
            return Some(Time::ZERO);
        }
        let silent = match self.state {
            State::Connected | State::Completed => self.silent_since().map(|at| at + SILENT),
            State::Disconnected => self.silent_since().map(|at| at + GONE),
            _ => None,
        };
        let broken = match self.state {
            State::Disconnected => self.broken_since().map(|at| at + GONE),
            _ => None,
        };
        let silent = silent.into_iter().chain(broken);
        silent.chain(self.lite_keepalive()).min()
    }

    /// The state, but for `closed`.
    pub(super) fn lite_state(&self, now: Time) -> State {
        let generation = &self.current;
        let silence = self.silent_since().map(|at| now.since(at));
        let is_over = self.broken_since().is_some_and(|at| at + GONE <= now);
        match (self.carrier(), silence) {
            (Some(_), Some(silence)) if silence >= GONE => State::Failed,
            (Some(_), _) if is_over => State::Failed,
            (Some(_), Some(silence)) if silence >= SILENT => State::Disconnected,
            // It is the peer's to open another.
            (Some(_), _) if self.awaits_connection() => State::Disconnected,
            // RFC 8445 section 8.2: with a selected pair there is nothing more to come.
            (Some(_), _) if generation.concluded => State::Completed,
            (Some(_), _) => State::Connected,
            // Only a nomination, or a restart, leads out of failure.
            (None, _) if self.state == State::Failed && generation.patience_ends.is_some() => {
                State::Failed
            }
            (None, _) if generation.remote.is_some() => State::Checking,
            (None, _) => State::New,
        }
    }

    /// Whether checks came regularly and do no more.
    pub(super) fn misses_checks(&self, now: Time) -> bool {
        self.silent_since().is_some_and(|at| at + SILENT <= now)
    }

    /// When the last check came on the path, if they came regularly.
    fn silent_since(&self) -> Option<Time> {
        let consent = self.carrier()?.consent?;
        (self.renewals >= RENEWALS).then_some(consent.confirmed_at)
    }

    fn lite_keepalive(&self) -> Option<Time> {
        let consent = self.carrier().and_then(|generation| generation.consent)?;
        (self.state != State::Failed).then_some(consent.next_request)
    }

    /// RFC 8445 section 8.2: beside a lite peer each pair is as good as its candidates' priorities say.
    ///
    /// The section has the controlling side tell the peer which of several pairs it chose. Both sides choose the one of
    /// the highest priority by the same formula (section 6.1.2.3), so there is nothing to reconcile.
    fn take_unchecked_pairs(&mut self, shared: &mut Shared, now: Time) {
        if !self.is_unchecked() {
            return;
        }
        if self.has_untaken_pair() {
            let untaken: Vec<_> = self
                .current
                .pairs
                .iter()
                .filter(|(_, pair)| pair.is_open())
                .map(|(id, pair)| (id, pair.socket, self.current.remote_address(pair)))
                .collect();
            for (id, socket, remote) in untaken {
                let base = self.sockets[usize::from(socket)].address;
                let is_ours = self.know_remote(shared, socket, scoped(remote, base));
                let local = self.local_of(socket, plain(base));
                if let Some(pair) = self.current.pairs.get_mut(id) {
                    pair.valid_local = is_ours.then_some(local);
                    pair.state = if is_ours {
                        PairState::Succeeded
                    } else {
                        // Another session of this engine has this path: data could not be told apart.
                        PairState::Failed
                    };
                }
            }
            self.select(shared, now);
        }
        if self.may_conclude_unchecked() {
            self.conclude_lite(shared);
            let selected = self.current.selected;
            if let Some(pair) = selected.and_then(|id| self.current.pairs.get_mut(id)) {
                pair.nominated = true;
            }
            if let Some(pair) = self.selected_pair() {
                self.emit(shared, Event::Nominated(pair));
            }
        }
    }

    fn has_untaken_pair(&self) -> bool {
        self.current.pairs.iter().any(|(_, pair)| pair.is_open())
    }

    fn may_conclude_unchecked(&self) -> bool {
        let Generation {
            selected,
            concluded,
            remote_ended,
            ..
        } = self.current;
        selected.is_some()
            && !concluded
            && remote_ended
            && self.gathering == GatheringState::Complete
    }
}
