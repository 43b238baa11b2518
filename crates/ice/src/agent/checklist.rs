//! The checklist: forming, pruning and ordering pairs (RFC 8445 section 6.1.2, RFC 8838 section 12).

use core::net::SocketAddr;

use super::generation::{Generation, RemoteCandidate};
use super::pair::{Pair, PairId};
use super::tcp::may_connect;
use super::{Agent, Socket};
use crate::candidate::{CandidateAddress, CandidateType, may_pair, pair_priority};
use crate::counters::Counters;
use crate::event::Role;
use crate::stats::PairState;
use nilas_turn::Time;

/// Pairs of a concluded session, at most: a few standbys, and what is tried beside them.
const MAX_LATE_PAIRS: usize = 32;

impl Agent {
    /// Pairs a new socket with all remote candidates.
    pub(super) fn pair_socket(&mut self, socket: u16, counters: &mut Counters) {
        // Before the peer's parameters are known nothing is paired: they may make the candidates stale.
        if self.current.remote.is_none() || !self.pairs_by_itself() {
            return;
        }
        for remote in 0..self.current.remotes.len() as u16 {
            if !self.is_of_another_path(remote) {
                self.pair_new(socket, remote, counters);
            }
        }
    }

    /// Whether a remote candidate is what the peer's NAT made of one for the path that taught it. RFC 8445 section 7.3.1.3 pairs
    /// no peer-reflexive candidate; where nothing else is known of its address, it is paired all the same, for the peer may
    /// have no other. Where the NAT maps by destination, a check of ours to it from another address would be too early: a NAT of
    /// ours that maps so as well would answer the peer's check from another port than that came to.
    fn is_of_another_path(&self, remote: u16) -> bool {
        let remotes = &self.current.remotes;
        let own = &remotes[usize::from(remote)];
        let is_told = |other: &RemoteCandidate| {
            other.candidate.kind != CandidateType::Prflx
                && !other.removed
                && other.is_tcp == own.is_tcp
                && other.address.ip() == own.address.ip()
        };
        own.candidate.kind == CandidateType::Prflx && remotes.iter().any(is_told)
    }

    /// Pairs a new remote candidate with all sockets.
    pub(super) fn pair_remote(&mut self, remote: u16, counters: &mut Counters) {
        if !self.pairs_by_itself() {
            return;
        }
        for socket in 0..self.sockets.len() as u16 {
            self.pair_new(socket, remote, counters);
        }
    }

    fn pair_new(&mut self, socket: u16, remote: u16, counters: &mut Counters) {
        if self.current.pair_of(socket, remote).is_some() {
            return;
        }
        // draft-ietf-mmusic-mdns-ice-candidates-03, 3.3.2: the relay would learn the address behind the name.
        let target = &self.current.remotes[usize::from(remote)].candidate.address;
        let is_name = matches!(target, CandidateAddress::Name { .. });
        if is_name && self.sockets[usize::from(socket)].relay.is_some() {
            return;
        }
        if !self.current.concluded {
            self.form_pair(socket, remote, counters);
        } else if self.is_continual() {
            self.form_late_pair(socket, remote, counters);
        }
    }

    /// The pair of a candidate that came when the checks were concluded: it is checked at once, as a standby is.
    pub(super) fn form_late_pair(&mut self, socket: u16, remote: u16, counters: &mut Counters) {
        let generation = &mut self.current;
        if generation.remotes[usize::from(remote)].removed {
            return;
        }
        let selected = generation.selected;
        generation.pairs.retain(|id, pair| {
            Some(id) == selected || pair.is_valid() || pair.is_open() || pair.is_queued()
        });
        if generation.pairs.len() >= MAX_LATE_PAIRS {
            counters.pairs_refused += 1;
            return;
        }
        generation.concluded = false;
        let id = self.form_pair(socket, remote, counters);
        self.current.concluded = true;
        if let Some(id) = id {
            self.current.trigger(id, false);
        }
    }

    /// Forms a pair and inserts it into the checklist, if it may be and there is room.
    ///
    /// Pairs are formed of bases: a server-reflexive local candidate would be replaced by its base
    /// and pruned as redundant (RFC 8445 section 6.1.2.4), so it never makes a pair of its own.
    fn form_pair(&mut self, socket: u16, remote: u16, counters: &mut Counters) -> Option<PairId> {
        let own = self.sockets[usize::from(socket)];
        if !own.usable || !self.is_base(&own) {
            return None;
        }
        let (is_member, component) = (self.is_member(), self.component());
        let is_full = self.current.pairs.len() >= self.max_pairs();
        let last_resort = is_full.then(|| self.last_resort()).flatten();
        let keeps_last_resort = self.keeps_last_resort();
        let generation = &mut self.current;
        let target = &generation.remotes[usize::from(remote)];
        // RFC 6544 section 6.2.
        let transports = may_connect(
            own.tcp(),
            &target.candidate.transport,
            target.candidate.kind,
        );
        if !transports || !reachable(own.address, target.address) || generation.concluded {
            return None;
        }
        let priority = priority_of(
            self.role,
            &self.sockets,
            generation,
            (socket, remote),
            component,
        );
        let is_last_resort = own.relay.is_some() && target.candidate.kind == CandidateType::Relay;
        let rank = match last_resort {
            None if is_last_resort && keeps_last_resort => u64::MAX,
            _ => priority,
        };
        if is_full && !generation.make_room(rank, last_resort) {
            counters.pairs_refused += 1;
            return None;
        }
        let foundation = (
            own.foundation,
            generation.remotes[usize::from(remote)].foundation,
        );
        let mut pair = Pair::new(socket, remote, priority, foundation);
        // In a session all checklists together say whether it may thaw.
        if !is_member {
            pair.state = generation.initial_state(foundation);
        }
        Some(generation.pairs.insert(pair))
    }

    /// The pair of a check that came, formed if need be (RFC 8445 section 7.3.1.4). After a nomination there is room for some; for
    /// one that the peer nominates there always is.
    pub(super) fn pair_for_check(
        &mut self,
        now: Time,
        (socket, remote): (u16, u16),
        nominated: bool,
        counters: &mut Counters,
    ) -> Option<PairId> {
        if let Some(id) = self.current.pair_of(socket, remote) {
            return Some(id);
        }
        let concluded = self.current.concluded;
        if concluded {
            let pair = (socket, remote);
            let component = self.component();
            let own = priority_of(self.role, &self.sockets, &self.current, pair, component);
            let priority = if nominated { u64::MAX } else { own };
            if !self.current.make_room_for_standby(now, priority) {
                counters.pairs_refused += 1;
                return None;
            }
        }
        self.current.concluded = false;
        let id = self.form_pair(socket, remote, counters);
        self.current.concluded = concluded;
        id
    }

    /// More components share the bound on pairs: what is over this one's part goes, the lowest priorities first.
    pub(crate) fn keep_to_max_pairs(&mut self) {
        let max_pairs = self.max_pairs();
        while self.current.pairs.len() > max_pairs
            && self.current.make_room(u64::MAX, self.last_resort())
        {}
    }

    /// The best pair of two relays. Its priority is below all others, and it is the one that leads somewhere where no other does:
    /// many networks and transports would discard it (RFC 8445 section 6.1.2.5). A departure: it stays within the bound.
    fn last_resort(&self) -> Option<PairId> {
        if !self.keeps_last_resort() {
            return None;
        }
        let generation = &self.current;
        let is_it = |(_, pair): &(PairId, &Pair)| {
            let remote = &generation.remotes[usize::from(pair.remote)].candidate;
            let own = &self.sockets[usize::from(pair.socket)];
            let may_lead = (pair.is_open() || pair.is_valid()) && self.has_ends(pair);
            may_lead && own.relay.is_some() && remote.kind == CandidateType::Relay
        };
        let pairs = generation.pairs.iter().filter(is_it);
        let (id, _) = pairs.max_by_key(|(_, pair)| pair.priority)?;
        Some(id)
    }

    /// It may take one place of several.
    fn keeps_last_resort(&self) -> bool {
        self.max_pairs() > 1
    }

    /// RFC 8445 section 7.2.5.1: priorities depend on the role.
    pub(super) fn reprioritize(&mut self) {
        let component = self.component();
        let mut pairs = core::mem::replace(&mut self.current.pairs, crate::arena::Arena::new());
        for (_, pair) in pairs.iter_mut() {
            pair.priority = priority_of(
                self.role,
                &self.sockets,
                &self.current,
                (pair.socket, pair.remote),
                component,
            );
        }
        self.current.pairs = pairs;
    }
}

impl Generation {
    /// RFC 8838 section 12: a pair waits unless one of its foundation is about to show the way.
    fn initial_state(&self, foundation: (u32, u16)) -> PairState {
        // A foundation that only one candidate of each side has cannot be another pair's.
        let shared = self.remotes.iter().enumerate().any(|(index, remote)| {
            remote.foundation == foundation.1 && index != usize::from(foundation.1)
        });
        if !shared && !self.has_foundation_twice(foundation.0) {
            return PairState::Waiting;
        }
        let mut state = PairState::Waiting;
        for (_, pair) in self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.foundation == foundation)
        {
            match pair.state {
                PairState::Succeeded => return PairState::Waiting,
                PairState::Waiting | PairState::InProgress => state = PairState::Frozen,
                PairState::Frozen | PairState::Failed => {}
            }
        }
        state
    }

    fn has_foundation_twice(&self, foundation: u32) -> bool {
        self.locals
            .iter()
            .filter(|local| {
                matches!(local.kind, CandidateType::Host | CandidateType::Relay)
                    && local.foundation == foundation
            })
            .nth(1)
            .is_some()
    }

    /// RFC 8445 section 6.1.2.5: over the limit the pair of the lowest priority goes, if it is lower
    /// than the new one's and nothing has come of it yet.
    fn make_room(&mut self, priority: u64, spared: Option<PairId>) -> bool {
        let lowest = self
            .pairs
            .iter()
            .filter(|(id, pair)| {
                let is_kept = self.selected == Some(*id) || spared == Some(*id);
                !pair.is_valid() && !pair.is_queued() && !is_kept
            })
            .map(|(id, pair)| {
                // A failed pair is worth less than any that was not tried.
                (
                    if pair.state == PairState::Failed {
                        0
                    } else {
                        pair.priority
                    },
                    id,
                )
            })
            .min();
        match lowest {
            Some((least, id)) if least < priority => self.pairs.remove(id).is_some(),
            _ => false,
        }
    }

    /// Puts a pair into the triggered-check queue, in front of the line if it is urgent.
    pub(super) fn trigger(&mut self, id: PairId, urgent: bool) {
        let turn = self.next_turn;
        let Some(pair) = self.pairs.get_mut(id) else {
            return;
        };
        if urgent {
            // The first number is never given otherwise.
            pair.turn = 1;
        } else if !pair.is_queued() {
            self.next_turn = turn.saturating_add(1).max(2);
            pair.turn = turn.max(2);
        }
    }

    pub(super) fn next_triggered(&mut self) -> Option<PairId> {
        let queued = self.pairs.iter().filter(|(_, pair)| pair.is_queued());
        let (id, _) = queued.min_by_key(|(_, pair)| pair.turn)?;
        self.pairs.get_mut(id)?.turn = 0;
        Some(id)
    }

    /// The next ordinary check (RFC 8445 section 6.1.4.2): the waiting pair of the highest priority,
    /// thawing frozen ones where no pair waits; in a session of several components those are thawed elsewhere.
    pub(super) fn next_ordinary(&mut self, thaws: bool) -> Option<PairId> {
        if self.concluded {
            return None;
        }
        let best = |generation: &Self, state| {
            generation
                .pairs
                .iter()
                .filter(|(_, pair)| pair.state == state)
                .max_by_key(|(_, pair)| pair.priority)
                .map(|(id, _)| id)
        };
        if let Some(id) = best(self, PairState::Waiting) {
            return Some(id);
        }
        let frozen = best(self, PairState::Frozen).filter(|_| thaws)?;
        let foundation = self.pairs.get(frozen)?.foundation;
        let busy = self
            .pairs
            .iter()
            .any(|(_, pair)| pair.foundation == foundation && pair.state == PairState::InProgress);
        if busy {
            // Another foundation's turn, if one has nothing under way.
            return self.thaw_another();
        }
        self.pairs.get_mut(frozen)?.state = PairState::Waiting;
        Some(frozen)
    }

    fn thaw_another(&mut self) -> Option<PairId> {
        let (id, _) = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.state == PairState::Frozen)
            .filter(|(_, frozen)| {
                !self.pairs.iter().any(|(_, pair)| {
                    pair.foundation == frozen.foundation && pair.state == PairState::InProgress
                })
            })
            .max_by_key(|(_, pair)| pair.priority)?;
        self.pairs.get_mut(id)?.state = PairState::Waiting;
        Some(id)
    }

    /// Whether `next_ordinary` would give one.
    pub(super) fn has_ordinary(&self, thaws: bool) -> bool {
        !self.concluded
            && self.pairs.iter().any(|(_, pair)| match pair.state {
                PairState::Waiting => true,
                PairState::Frozen if thaws => !self.pairs.iter().any(|(_, other)| {
                    other.foundation == pair.foundation && other.state == PairState::InProgress
                }),
                _ => false,
            })
    }

    /// RFC 8445 section 7.2.5.3.3: one success thaws the foundation.
    pub(super) fn thaw(&mut self, foundation: (u32, u16)) {
        for (_, pair) in self.pairs.iter_mut() {
            if pair.foundation == foundation && pair.state == PairState::Frozen {
                pair.state = PairState::Waiting;
            }
        }
    }

    /// RFC 8445 section 8.1.2: with a nominated pair, the others leave the checklist but for a few that may
    /// take over.
    pub(super) fn conclude(&mut self, nominated: PairId) {
        self.concluded = true;
        self.early = Vec::new();
        for (_, pair) in self.pairs.iter_mut() {
            pair.turn = 0;
            pair.repeat.stop();
        }
        self.keep_standbys(nominated);
    }
}

/// The priority of the pair whose base is this socket.
fn priority_of(
    role: Role,
    sockets: &[Socket],
    generation: &Generation,
    (socket, remote): (u16, u16),
    component: u16,
) -> u64 {
    let own = &sockets[usize::from(socket)];
    let local = own.priority(own.kind(), component);
    let remote = generation.remotes[usize::from(remote)].candidate.priority;
    match role {
        Role::Controlling => pair_priority(local, remote),
        Role::Controlled => pair_priority(remote, local),
    }
}

/// Whether a datagram from this base could arrive there. Loopback only talks to loopback: a remote
/// candidate must not make an agent knock at its own machine's doors.
fn reachable(base: SocketAddr, remote: SocketAddr) -> bool {
    may_pair(base.ip(), remote.ip()) && base.ip().is_loopback() == remote.ip().is_loopback()
}
