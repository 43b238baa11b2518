//! Nominating a pair (RFC 8445 section 8.1).
//!
//! Data flows on the best valid pair at once (section 12.1), and it is the one that is nominated, as soon
//! as nothing better can still arrive soon: every better pair has been checked, and was given twice
//! the round trip of the best valid one to answer. No fixed wait stands anywhere on the way.
//!
//! Where the best valid pair is relayed, direct ones are given more: ten round trips, between 250 ms and
//! 2 s, and 2 s while candidates may still come. A relay answers at the first check, whereas NATs open only
//! once both sides have sent; and data flows meanwhile.

use core::cmp::Reverse;
use core::time::Duration;

use nilas_turn::client::Framing;
use smallvec::SmallVec;

use super::Agent;
use super::generation::Generation;
use super::pair::{Pair, PairId};
use crate::candidate::CandidateType;
use crate::event::{Event, GatheringState, Role};
use crate::io::SelectedPair;
use crate::path::Via;
use crate::shared::Shared;
use crate::stats::PairState;
use nilas_turn::Time;

/// How long a relayed pair waits at most for a direct one before it is nominated.
const RELAY_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits at least, however short the round trip: repeated checks are 40 ms apart and more.
const LEAST_RELAY_PATIENCE: Duration = Duration::from_millis(250);
/// How long a pair that the peer's check came through is waited for at least: a busy peer is not a lost packet.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);

impl Agent {
    /// RFC 8445 section 8.1.2: a nomination has come true.
    ///
    /// An aggressive peer nominates several pairs; the one of the highest priority stands (section
    /// 8.1.1).
    pub(super) fn nominated(&mut self, shared: &mut Shared, now: Time, id: PairId) {
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return;
        };
        if pair.nominated {
            return self.forget_dead_nominations(now);
        }
        pair.nominated = true;
        if self.current.nominations > 0 {
            // Renomination: the latest stands, and it alone.
            for (other, pair) in self.current.pairs.iter_mut() {
                pair.nominated = other == id;
            }
        }
        if !self.current.concluded {
            let overtaken = self.overtaken_by(now, id);
            self.current.conclude(id);
            for (socket, remote) in overtaken {
                self.form_late_pair(socket, remote, &mut shared.counters);
            }
            self.watch_standbys(now);
            self.shrink();
            self.end_previous(shared);
            self.forget_peers();
        }
        self.select(shared, now);
        self.forget_dead_nominations(now);
        if let Some(pair) = self.selected_pair().filter(|pair| pair.nominated) {
            self.emit(shared, Event::Nominated(pair));
        }
        self.update_state(shared, now);
    }

    /// A peer that a NAT has given another address nominates what is the same pair to it once more. Where that carries the data,
    /// one that does not answer any more is no nominated pair.
    pub(super) fn forget_dead_nominations(&mut self, now: Time) {
        let generation = &mut self.current;
        let selected = generation.selected;
        let carrier = selected.and_then(|id| generation.pairs.get(id));
        if !carrier.is_some_and(|pair| pair.nominated) {
            return;
        }
        for (id, pair) in generation.pairs.iter_mut() {
            let lives = pair.died_at.is_none() && !pair.owes_answer(now);
            pair.nominated &= Some(id) == selected || lives;
        }
    }

    /// Direct pairs that are about to be given up for a relayed one before anything is known of them: their candidate has
    /// just come, or the peer's check, or their first check went out while the nomination was on its way (RFC 8445
    /// section 8.1.2 has its response waited for). Had they come a moment later, they would be late ones between two that take
    /// such, and so they are.
    fn overtaken_by(&self, now: Time, nominated: PairId) -> SmallVec<[(u16, u16); 8]> {
        let best = self.current.pairs.get(nominated);
        let best = best.filter(|best| self.is_continual() && self.is_relayed(best));
        let Some(best) = best else {
            return SmallVec::new();
        };
        let patience = self.patience_with(best);
        let is_new = |pair: &Pair| {
            let is_young = pair.requests_sent == 1 && now < pair.checked_at + patience;
            pair.requests_sent == 0 || is_young || pair.requests_received > 0
        };
        let pairs = self.current.pairs.iter().map(|(_, pair)| pair);
        pairs
            .filter(|pair| pair.is_open() && is_new(pair) && !self.is_relayed(pair))
            .map(|pair| (pair.socket, pair.remote))
            .collect()
    }

    /// Nominates, if it is this agent's to do and the time has come.
    pub(super) fn consider_nomination(&mut self, now: Time) {
        if self.nomination_deadline().is_none_or(|at| at > now) {
            return;
        }
        if let Some(id) = self.current.selected {
            self.nominate(id);
        }
    }

    /// The next check of a pair nominates it, and what was on its way to nominate another does so no more. With renomination
    /// its value is above all before it, the ones that were not answered among them: the peer may have followed them.
    pub(super) fn nominate(&mut self, id: PairId) {
        let renominates = self.renominates();
        let generation = &mut self.current;
        for (_, pair) in generation.pairs.iter_mut() {
            pair.nominate = false;
        }
        let Some(pair) = generation.pairs.get_mut(id) else {
            return;
        };
        if renominates {
            generation.nominations = generation.nominations.saturating_add(1);
            pair.nomination = generation.nominations;
        }
        pair.nominate = true;
        generation.trigger(id, true);
    }

    /// The value that a consent check says once more. Where the peer has left the pair meanwhile, or forgot it, or is reached
    /// there from another address, it comes back to it.
    ///
    /// RFC 8445 section 8.1.1 forbids to nominate another pair, not to say again which one is; RFC 7675 section 5.1 asks for no
    /// more than a Binding request. libwebrtc does the same with each check of its selected pair. One that is not answered
    /// fails nothing, where RFC 8445 section 7.2.5.3.4 has the check that nominates fail its pair: it is sent once, and what
    /// it says is known to have come true before.
    pub(super) fn standing_nomination(&self, generation: u32, id: PairId) -> Option<u32> {
        let pair = self.current.pairs.get(id)?;
        let stands = generation == self.current.number && self.stands(pair);
        stands.then_some(pair.nomination)
    }

    /// Whether a pair is the nominated one, and no other nomination has been sent or seen since.
    pub(super) fn stands(&self, pair: &Pair) -> bool {
        pair.nominated && pair.nomination == self.current.nominations
    }

    /// When to nominate, if there is something to nominate and nothing has been.
    pub(super) fn nomination_deadline(&self) -> Option<Time> {
        let generation = &self.current;
        if self.role != Role::Controlling || generation.concluded || generation.remote.is_none() {
            return None;
        }
        let best_id = generation.selected?;
        let best = generation.pairs.get(best_id)?;
        if generation.pairs.iter().any(|(_, pair)| pair.nominate) {
            return None;
        }
        let patience = self.patience_with(best);
        let better = generation
            .pairs
            .iter()
            .filter(|(id, pair)| *id != best_id && pair.is_open() && self.is_better(pair, best));
        let mut at = Time::ZERO;
        let relayed = self.is_relayed(best);
        let valid_at = best.checked_at + best.answered_after;
        let ended = self.gathering == GatheringState::Complete && generation.remote_ended;
        if relayed && !ended {
            at = valid_at + RELAY_PATIENCE;
        }
        for (_, pair) in better {
            match pair.state {
                PairState::InProgress if relayed => {
                    at = at.max(pair.checked_at.max(valid_at) + patience);
                }
                // Where the peer's check came through, ours may only have been too early for the peer's
                // firewall: its repetition is waited for.
                PairState::InProgress if pair.requests_received > 0 => {
                    let asked = pair.repeat.first_at().unwrap_or(pair.checked_at);
                    at = at.max(asked.max(pair.checked_at) + patience.max(LEAST_PATIENCE));
                }
                PairState::InProgress => at = at.max(pair.checked_at + patience),
                // Another component tries this foundation, and may do so for long where it leads nowhere.
                PairState::Frozen if self.is_member() => at = at.max(valid_at + patience),
                // Its first check is yet to go out, within a few pacing slots.
                _ => return None,
            }
        }
        Some(at)
    }

    /// How long a better pair than the best valid one is given to answer: twice the round trip of that one; unmeasured, that of
    /// its check's repetition.
    fn patience_with(&self, best: &Pair) -> Duration {
        let patience = best.round_trip.or(self.round_trip).unwrap_or_default() * 2;
        match self.is_relayed(best) {
            true => (patience * 5).clamp(LEAST_RELAY_PATIENCE, RELAY_PATIENCE),
            false => patience,
        }
    }

    /// In the order of the [policy](crate::selection): what a network costs goes first. A better pair that is not waited
    /// for here would be worth another nomination, or a restart, as soon as it is valid.
    fn is_better(&self, pair: &Pair, than: &Pair) -> bool {
        let rank = |pair: &Pair| (Reverse(self.network_cost(pair)), pair.priority);
        rank(pair) > rank(than)
    }

    pub(super) fn is_relayed(&self, pair: &Pair) -> bool {
        let remote = &self.current.remotes[usize::from(pair.remote)].candidate;
        let own = &self.sockets[usize::from(pair.socket)];
        // Nor is TCP what one would choose: RFC 6544 section 4.2.
        own.relay.is_some() || own.tcp().is_some() || remote.kind == CandidateType::Relay
    }

    /// The pair that carries the data, as it is told.
    pub(crate) fn selected_pair(&self) -> Option<SelectedPair> {
        let generation = self.carrier()?;
        let pair = generation.pairs.get(generation.selected?)?;
        self.told_pair(generation, pair)
    }

    pub(super) fn told_pair(&self, generation: &Generation, pair: &Pair) -> Option<SelectedPair> {
        let local = generation.locals.get(usize::from(pair.valid_local?))?;
        let mut remote = generation.remotes[usize::from(pair.remote)]
            .candidate
            .as_ref()
            .clone();
        if remote.ufrag.is_none() {
            remote.ufrag = generation
                .remote
                .as_ref()
                .map(|remote| remote.ufrag.shared());
        }
        Some(SelectedPair {
            local: self.candidate(generation, local),
            remote,
            base: self.sockets[usize::from(pair.socket)].address,
            round_trip: pair.round_trip,
            nominated: pair.nominated,
        })
    }

    /// Gives back what only finding a path needed.
    fn shrink(&mut self) {
        self.transactions.shrink_to_fit();
        self.binds = Vec::new();
        self.current.early = Vec::new();
        self.current.locals.shrink_to_fit();
        self.current.remotes.shrink_to_fit();
    }

    /// Publishes where data goes now.
    pub(super) fn publish(&self, now: Time) {
        if let Some(path) = self.data_route(now) {
            self.path.publish(Ok(path));
        }
    }

    /// Publishes where data goes if that is another way than before: a relay puts something else around
    /// it now.
    pub(super) fn republish(&self, now: Time) {
        let (Some(route), Ok(path)) = (self.data_route(now), self.path.load()) else {
            return;
        };
        if route != (path.via, path.framing, path.datagram) {
            self.path.publish(Ok(route));
        }
    }

    fn data_route(&self, now: Time) -> Option<(Via, Option<Framing>, u16)> {
        let generation = self.carrier()?;
        let id = generation.selected?;
        let pair = generation.pairs.get(id)?;
        let remote = generation.remote_address(pair);
        let (via, framing) = self.route(now, pair.socket, remote)?;
        let kind = generation.remotes[usize::from(pair.remote)].candidate.kind;
        let path = (generation.number, id);
        let datagram = self.longest_datagram(path, via, framing, remote, kind);
        Some((via, framing, datagram))
    }
}
