//! Which pair carries the data: what the [policy](crate::selection) is told, and what follows from its answer.

use smallvec::SmallVec;

use super::Agent;
use super::generation::{Generation, RemoteCandidate};
use super::pair::{Pair, PairId};
use super::standby::SHUNNED;
use crate::candidate::{Candidate, CandidateType};
use crate::event::{Event, RestartReason, Role};
use crate::selection::{self, Choice, Contender, Liveness, Situation};
use crate::shared::Shared;
use nilas_turn::Time;

/// What `network-cost` may be at most.
pub(super) const GREATEST_COST: u16 = 999;

/// When the data last moved from one path to another, and what that costs beside a peer that has no renomination. Times
/// are in tenths of a second since the engine began; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    /// The last time, and the one before that.
    at: [u32; 2],
    /// No restart for a better path before this.
    restart_after: u32,
    /// Such restarts since the networks of this machine last changed.
    restarts: u8,
}

impl Moves {
    const MINUTE: u32 = 600;

    fn add(&mut self, now: Time) {
        self.at = [tenths(now), self.at[0]];
    }

    /// Whether a better path may be gone to by a restart. It may end where it began, as where the peer nominates by rules of
    /// its own: each one lets the next wait twice as long.
    fn may_restart(self, now: Time) -> bool {
        self.restart_after <= tenths(now)
    }

    fn restarted(&mut self, now: Time) {
        let wait = Self::MINUTE << self.restarts.min(6);
        self.restart_after = tenths(now).saturating_add(wait);
        self.restarts = self.restarts.saturating_add(1);
    }

    /// The networks have changed: what was in vain before may not be now.
    pub(super) const fn forgive(&mut self) {
        (self.restart_after, self.restarts) = (0, 0);
    }

    /// How many there were in the last minute, up to two.
    pub(super) fn recent(self, now: Time) -> u8 {
        let recent = |at: &&u32| **at > 0 && **at + Self::MINUTE > tenths(now);
        self.at.iter().filter(recent).count() as u8
    }
}

fn tenths(time: Time) -> u32 {
    (time.as_nanos() / 100_000_000).clamp(1, u64::from(u32::MAX / 2)) as u32
}

impl Agent {
    /// Lets the data take the best pair there is, as far as that is for this agent alone to decide.
    pub(super) fn select(&mut self, shared: &mut Shared, now: Time) {
        let Some((best, _)) = self.choose(now, |_, _| true) else {
            return;
        };
        let selected = self.current.selected;
        if selected == Some(best) || self.is_bound(now, best) {
            return;
        }
        let moved = match selected {
            Some(_) => self.current.concluded,
            None => self.previous.is_some(),
        };
        if moved {
            self.moves.add(now);
        }
        self.leave_path(shared);
        self.current.selected = Some(best);
        self.selected_changes += 1;
        self.watch(shared, now);
        self.current.watch.begin(now);
        if let Some(pair) = self.current.pairs.get(best) {
            let (socket, remote) = (pair.socket, self.current.remote_address(pair));
            self.bind_channel(now, socket, remote);
        }
        self.publish(now);
        if let Some(pair) = self.selected_pair() {
            self.emit(shared, Event::SelectedPairChange(pair));
        }
        let first = self.current.pairs.get(best).filter(|_| selected.is_none());
        if first.is_some_and(|pair| self.is_relayed(pair)) {
            self.try_again(now);
        }
        self.forget_dead_nominations(now);
        self.announce_state(shared);
        self.update_state(shared, now);
    }

    /// Whether a nomination holds the data where it is: only another one takes it to a pair without.
    fn is_bound(&self, now: Time, to: PairId) -> bool {
        let nominated = |id| {
            self.current
                .pairs
                .get(id)
                .filter(|pair: &&Pair| pair.nominated)
        };
        let holds = |pair: &Pair| pair.is_valid() && self.is_trusted(pair, now);
        self.current.concluded
            && self.current.selected.and_then(nominated).is_some_and(holds)
            && nominated(to).is_none()
    }

    /// Asks whether another path is worth to be nominated, and does so by means that the peer understands.
    pub(super) fn consider_move(&mut self, shared: &mut Shared, now: Time) {
        let decides = self.role == Role::Controlling && self.current.concluded;
        // A nomination that is overdue may be of a path that has died meanwhile.
        let is_under_way = |pair: &Pair| pair.nominate && !pair.owes_answer(now);
        let busy = self.current.watch.is_suspicious()
            || self
                .current
                .pairs
                .iter()
                .any(|(_, pair)| is_under_way(pair));
        if !decides || busy || self.lite || self.current.pairs.len() < 2 {
            return;
        }
        let Some((to, choice)) = self.choose(now, |_, _| true) else {
            return;
        };
        if self.current.selected == Some(to) {
            // It has taken over, perhaps by the very answer that made it valid: the peer is yet to be told.
            let pair = self.current.pairs.get(to);
            if !pair.is_some_and(|pair| self.stands(pair)) {
                self.renominate(shared, now, to);
            }
            return;
        }
        if !self.renominates() {
            let is_due = choice.reason.is_worth_a_restart() && self.moves.may_restart(now);
            if is_due && self.restart_alone(shared, now, RestartReason::OtherPath) {
                self.moves.restarted(now);
            }
            return;
        }
        self.nominate(to);
    }

    /// What the policy chooses among these valid pairs.
    pub(super) fn choose(
        &self,
        now: Time,
        which: impl Fn(PairId, &Pair) -> bool,
    ) -> Option<(PairId, Choice)> {
        let mut ids: SmallVec<[PairId; 8]> = SmallVec::new();
        let mut contenders: SmallVec<[Contender; 8]> = SmallVec::new();
        for (id, pair) in self.current.pairs.iter() {
            if let Some(contender) = self.contender(now, id, pair).filter(|_| which(id, pair)) {
                ids.push(id);
                contenders.push(contender);
            }
        }
        let selected = self.current.selected;
        let situation = Situation {
            current: ids.iter().position(|id| selected == Some(*id)),
            settled: self.current.concluded,
            recent_moves: self.moves.recent(now),
        };
        let policy = self.settings.selection().unwrap_or(selection::select);
        let choice = policy(&situation, &contenders)?;
        Some((*ids.get(choice.index)?, choice))
    }

    fn contender(&self, now: Time, id: PairId, pair: &Pair) -> Option<Contender> {
        let local = self.current.locals.get(usize::from(pair.valid_local?))?;
        let remote = &self.current.remotes[usize::from(pair.remote)].candidate;
        let suspicious_since = self.current.watch.suspicious_since();
        let suspected = match self.current.selected == Some(id) {
            true => suspicious_since.is_some(),
            // A standby is asked together with the path that is under suspicion, and every now and then: one that has not
            // answered may be gone as well.
            false => {
                let asked = suspicious_since.is_some_and(|since| pair.confirmed_at < since);
                !self.lite && (asked || pair.owes_answer(now))
            }
        };
        let liveness = match self.is_trusted(pair, now) {
            false => Liveness::Dead,
            true if suspected => Liveness::Suspected,
            true => Liveness::Alive,
        };
        let own = &self.sockets[usize::from(pair.socket)];
        // Through a translator the peer sees the relay at an address that no candidate has.
        let local = match own.relay {
            Some(_) => CandidateType::Relay,
            None => local.kind,
        };
        Some(Contender {
            network_cost: self.network_cost(pair),
            round_trip: pair.smoothed_round_trip(),
            loss: pair.loss_percent(),
            age: pair.age(now),
            liveness,
            nominated: pair.nominated,
            tcp: own.tcp().is_some(),
            ..Contender::new(local, remote.kind, pair.priority)
        })
    }

    /// What the networks of both ends cost together.
    pub(super) fn network_cost(&self, pair: &Pair) -> u16 {
        // Two lite agents choose by the same formula, or they do not meet (RFC 8445 section 8.2).
        if self.lite {
            return 0;
        }
        let remote = &self.current.remotes[usize::from(pair.remote)];
        self.sockets[usize::from(pair.socket)].network_cost + self.current.cost_of_remote(remote)
    }

    /// Whether data may go here: not where it died, until it has answered some time later. That time is longer
    /// where the data has moved lately.
    pub(super) fn is_trusted(&self, pair: &Pair, now: Time) -> bool {
        let shunned = SHUNNED * (1 << self.moves.recent(now));
        let answers = { pair.died_at }.is_none_or(|died| pair.confirmed_at >= died + shunned);
        answers && self.has_ends(pair)
    }

    /// Whether both candidates are still there: the address of a socket may be gone, and come back for another one, and the
    /// peer may have taken its candidate back.
    pub(super) fn has_ends(&self, pair: &Pair) -> bool {
        self.sockets[usize::from(pair.socket)].usable
            && !self.current.remotes[usize::from(pair.remote)].removed
    }
}

impl Generation {
    /// What the peer's network costs. Nobody tells that of a peer-reflexive candidate: it is of the network of the candidate
    /// that was told with the same address, or at least no cheaper than any that was told.
    fn cost_of_remote(&self, remote: &RemoteCandidate) -> u16 {
        if remote.candidate.kind != CandidateType::Prflx {
            return network_cost(&remote.candidate);
        }
        let told = || {
            let all = self.remotes.iter();
            all.filter(|other| other.candidate.kind != CandidateType::Prflx)
        };
        let same = told().find(|other| other.address.ip() == remote.address.ip());
        match same {
            Some(same) => network_cost(&same.candidate),
            None => { told().map(|other| network_cost(&other.candidate)) }
                .min()
                .unwrap_or(0),
        }
    }
}

/// As the peer's candidate line tells it.
pub(super) fn network_cost(candidate: &Candidate) -> u16 {
    let told = candidate
        .extensions
        .iter()
        .find(|(name, _)| &**name == NETWORK_COST);
    told.and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
        .min(GREATEST_COST)
}

/// The extension of candidate lines that libwebrtc has for it.
pub(super) const NETWORK_COST: &str = "network-cost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restart_for_a_better_path_lets_the_next_wait_twice_as_long_until_the_networks_change() {
        let mut moves = Moves::default();
        let minute = |n: u64| Time::from_millis(n * 60_000);
        let mut at = Vec::new();
        for n in 1..20 {
            if moves.may_restart(minute(n)) {
                moves.restarted(minute(n));
                at.push(n);
            }
        }
        assert_eq!(at, [1, 2, 4, 8, 16]);
        moves.forgive();
        assert!(moves.may_restart(minute(20)));
    }
}
