//! The selected path is watched while it carries data, and another takes over when it dies.
//!
//! Consent (RFC 7675) notices a dead path after seconds. Data tells sooner, to whoever sends: where datagrams
//! of the peer came in three looks of 100 ms in a row and then none for 200 ms and half a round trip, where
//! nothing has come for 500 ms, or where a consent check is not answered, the path is **suspected**: it and its standbys are checked at once, by connectivity checks
//! that are paced as all are. An answer on the suspected path ends the suspicion. Where there is none within
//! one and a half round trips, data moves to the best standby that did answer. Where none does within four
//! round trips (600 ms at the least), the agent restarts by itself, if it may: the old path stays until the
//! new one is found.
//!
//! A **standby** is a valid pair on another way through the network: of another local address or to another
//! remote one. One is kept for each way, a few in all, and checked every 15 s so that NATs remember it.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use smallvec::SmallVec;

use super::generation::Generation;
use super::mobility::RestartDue;
use super::pair::{Pair, PairId};
use super::{Agent, earliest};
use crate::event::{Event, RestartReason, Role};
use crate::ids::SocketId;
use crate::shared::Shared;
use crate::stats::PairState;
use nilas_turn::Time;

/// How often a path that carries data is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// So many looks in a row must have found data before its absence means something.
const REGULAR: u8 = 3;
/// After a path was selected, so many looks are taken until data comes.
const GRACE: u8 = 20;
/// Data that comes so regularly is missed after this and half a round trip.
const SILENCE: Duration = Duration::from_millis(200);
/// Where data is sent and none ever comes, the path has to answer a check so often.
const ONE_WAY: Duration = Duration::from_millis(500);
/// The least time that a suspected path is given to answer.
const LEAST_DOUBT: Duration = Duration::from_millis(100);
/// The least time until an agent without a way out restarts.
const LEAST_RESTART: Duration = Duration::from_millis(600);
/// The same for a path that carries no data: one lost consent check is no reason to hurry.
const IDLE_DOUBT: Duration = Duration::from_secs(1);
const IDLE_RESTART: Duration = Duration::from_millis(2500);
/// And for one in a network where the data has been moved twice within a minute.
const JITTERY_DOUBT: Duration = Duration::from_secs(2);
/// The least time between two restarts of an agent's own; it doubles with each that found nothing.
const RESTART_INTERVAL: Duration = Duration::from_secs(5);
/// A path that died is not gone back to for so long, though it may answer again.
pub(super) const SHUNNED: Duration = Duration::from_secs(10);
/// RFC 8445 section 11: Tr. A standby is a path like any other to the NATs on it.
pub(super) const KEEP_WARM: Duration = Duration::from_secs(15);
/// Standbys of a session, at most.
const MAX_STANDBYS: usize = 4;

/// How the selected path of a generation is watched.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Watch {
    next_look: Option<Time>,
    /// Datagrams of data that had come by the last look.
    packets: u64,
    /// Looks in a row that found some.
    streak: u8,
    grace: u8,
    suspicion: Option<Suspicion>,
    /// When the standbys are checked.
    keep_warm_at: Option<Time>,
}

/// What brought the selected path under suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Data that came regularly is missing, or the system says that there is no way.
    Data,
    /// A consent check was not answered.
    Consent,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Time,
    /// The suspected path should have answered by then.
    switch_at: Option<Time>,
    /// So should a standby.
    restart_at: Option<Time>,
}

impl Watch {
    /// A path was selected: data may begin to come.
    pub(super) fn begin(&mut self, now: Time) {
        self.next_look = Some(now + LOOK);
        self.packets = 0;
        self.streak = 0;
        self.grace = GRACE;
        self.suspicion = None;
    }

    pub(super) const fn is_suspicious(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Since when the selected path is under suspicion.
    pub(super) fn suspicious_since(&self) -> Option<Time> {
        Some(self.suspicion?.since)
    }

    /// Reads a little of it: see [`Agent::fetch`].
    pub(super) fn peek(&self) -> u64 {
        self.packets ^ self.keep_warm_at.map_or(0, Time::as_nanos)
    }

    fn deadline(&self) -> Option<Time> {
        let suspicion = self.suspicion.and_then(|suspicion| suspicion.restart_at);
        let switch = self.suspicion.and_then(|suspicion| suspicion.switch_at);
        earliest([self.next_look, suspicion, switch])
    }
}

impl Generation {
    /// The pairs that stay when the checks are concluded (RFC 8445 section 8.1.2): the selected one, and for
    /// each other way through the network the best that is valid or may yet become so.
    pub(super) fn keep_standbys(&mut self, selected: PairId) {
        let mut order: SmallVec<[PairId; 8]> = self.pairs.iter().map(|(id, _)| id).collect();
        order.sort_by_key(|id| {
            let pair = self.pairs.get(*id);
            core::cmp::Reverse(pair.map(|pair| (*id == selected, pair.is_valid(), pair.priority)))
        });
        let mut kept: SmallVec<[PairId; 8]> = SmallVec::new();
        let mut ways: SmallVec<[(u16, IpAddr); 8]> = SmallVec::new();
        for id in order {
            let Some(pair) = self.pairs.get(id) else {
                continue;
            };
            let way = (pair.socket, self.remote_address(pair).ip());
            if ways.len() > MAX_STANDBYS
                || ways.contains(&way)
                || !(pair.is_valid() || pair.is_open())
            {
                continue;
            }
            ways.push(way);
            kept.push(id);
        }
        self.pairs.retain(|id, _| kept.contains(&id));
        for id in kept {
            match self.pairs.get(id) {
                Some(pair) if matches!(pair.state, PairState::Frozen | PairState::Waiting) => {
                    self.trigger(id, false);
                }
                _ => {}
            }
        }
    }

    /// Whether there is room for a pair that a concluded session did not have. One of which an answer is overdue goes for it, or
    /// else the least of those that have a lower priority, and last of all one that the peer has just nominated and that is
    /// yet to be checked from here.
    ///
    /// Were any given up that has just been asked, its answer would find nothing, and two agents with more ways than there is
    /// room for would ask each other for ever.
    pub(super) fn make_room_for_standby(&mut self, now: Time, priority: u64) -> bool {
        let latest = self.nominations;
        while self.pairs.len() > 2 * MAX_STANDBYS {
            let rank = |pair: &Pair| {
                let is_waiting = pair.is_queued() || pair.is_open();
                let is_overdue = !is_waiting && (!pair.is_valid() || pair.owes_answer(now));
                let is_awaited = pair.nomination_seen && pair.nomination == latest;
                (is_awaited, !is_overdue, pair.priority)
            };
            let least = { self.pairs.iter() }
                .filter(|(id, _)| Some(*id) != self.selected)
                .map(|(id, pair)| (rank(pair), id))
                .min();
            match least {
                Some((least, id)) if least < (priority == u64::MAX, true, priority) => {
                    self.pairs.remove(id);
                }
                _ => return false,
            }
        }
        true
    }
}

impl Agent {
    fn standbys(&self) -> Vec<PairId> {
        let selected = self.current.selected;
        let valid = |(id, pair): &(PairId, &Pair)| {
            Some(*id) != selected && pair.is_valid() && self.has_ends(pair)
        };
        let pairs = self.current.pairs.iter().filter(valid);
        pairs.map(|(id, _)| id).collect()
    }

    /// When `fire_watch` has something to do.
    pub(super) fn watch_deadline(&self) -> Option<Time> {
        // A lite agent has no means to ask.
        if self.lite {
            return None;
        }
        self.current.selected?;
        // A single pair has no standbys.
        let warm = self.current.pairs.len() > 1;
        let deadline = self.current.watch.deadline();
        earliest([deadline, self.current.watch.keep_warm_at.filter(|_| warm)])
    }

    /// Whether a check is only to keep a standby warm: one datagram, that nothing depends on.
    pub(super) fn is_keeping_warm(&self, pair: &Pair) -> bool {
        self.current.concluded
            && pair.is_valid()
            && !pair.nominate
            && self.current.watch.suspicion.is_none()
    }

    /// Looks at the path, doubts it, moves away from it.
    pub(super) fn fire_watch(&mut self, shared: &mut Shared, now: Time) {
        if self.watch_deadline().is_none_or(|at| at > now) {
            return;
        }
        if self.current.watch.next_look.is_some_and(|at| at <= now) {
            self.look(shared, now);
        }
        if self.current.watch.keep_warm_at.is_some_and(|at| at <= now) {
            let standbys = self.standbys();
            self.current.watch.keep_warm_at = Some(now + KEEP_WARM);
            for id in standbys {
                self.current.trigger(id, false);
            }
        }
        let Some(suspicion) = self.current.watch.suspicion else {
            return;
        };
        if suspicion.switch_at.is_some_and(|at| at <= now) {
            if let Some(best) = self.best_standby(now, suspicion.since) {
                return self.fail_over(shared, now, best);
            }
            // From now on the first that answers takes over.
            self.with_suspicion(|suspicion| suspicion.switch_at = None);
        }
        if suspicion.restart_at.is_some_and(|at| at <= now) {
            // RFC 6544 section 11.1.
            if self.renew_connection(shared, now, suspicion.since) {
                let again = now + now.since(suspicion.since);
                return self.with_suspicion(|suspicion| suspicion.restart_at = Some(again));
            }
            self.with_suspicion(|suspicion| suspicion.restart_at = None);
            self.restart_alone(shared, now, RestartReason::PathDied);
        }
    }

    fn with_suspicion(&mut self, change: impl FnOnce(&mut Suspicion)) {
        if let Some(suspicion) = &mut self.current.watch.suspicion {
            change(suspicion);
        }
    }

    /// Whether data came since the last look, and whether its absence means something.
    fn look(&mut self, shared: &mut Shared, now: Time) {
        let Some((socket, remote)) = self.selected_remote() else {
            return;
        };
        let (packets, last) = match shared.demux.by_remote(socket, remote) {
            Some(route) => (route.packets, route.last),
            None => (0, Time::ZERO),
        };
        let half = self.selected_round_trip() / 2;
        let sending = self.is_sending(shared, now);
        let answered = self.selected_confirmed_at();
        let watch = &mut self.current.watch;
        watch.next_look = Some(now + LOOK);
        if packets != watch.packets {
            watch.packets = packets;
            watch.streak = (watch.streak + 1).min(REGULAR);
            watch.grace = 0;
        } else if watch.suspicion.is_some() {
            // It goes on until something answers.
        } else if sending {
            let missed = match watch.streak {
                REGULAR => last + SILENCE + half,
                _ => last.max(answered) + ONE_WAY + half,
            };
            if missed <= now {
                self.suspect(shared, now, Doubt::Data);
            }
        } else if watch.grace > 0 {
            watch.grace -= 1;
        } else {
            // Nothing comes by here regularly; consent looks again.
            watch.next_look = None;
            watch.streak = 0;
        }
    }

    /// A consent check goes out: has data begun to come, or to be sent?
    pub(super) fn look_again(&mut self, shared: &mut Shared, now: Time) {
        let heard = shared.demux.take_heard(self.id.0.slot);
        if self.current.selected.is_some() && (heard || self.is_sending(shared, now)) {
            self.current.watch.next_look.get_or_insert(now + LOOK);
        }
    }

    fn is_sending(&self, shared: &mut Shared, now: Time) -> bool {
        // Whoever sends writes this at any time: like chance, it is no input and has to be recorded.
        let sending = self.path.last_sent() + LOOK * 2 >= now && self.path.packets_sent() > 0;
        shared.source.observe(sending)
    }

    fn selected_confirmed_at(&self) -> Time {
        let selected = self.current.selected;
        let pair = selected.and_then(|id| self.current.pairs.get(id));
        pair.map_or(Time::ZERO, |pair| pair.confirmed_at)
    }

    fn selected_round_trip(&self) -> Duration {
        let pair = self
            .current
            .selected
            .and_then(|id| self.current.pairs.get(id));
        pair.and_then(|pair| pair.round_trip)
            .or(self.round_trip)
            .unwrap_or(LEAST_DOUBT)
    }

    /// The selected path may be dead: it and its standbys are checked at once.
    pub(super) fn suspect(&mut self, shared: &mut Shared, now: Time, doubt: Doubt) {
        let Some(selected) = self.current.selected else {
            return;
        };
        if self.current.watch.suspicion.is_some() || self.current.consent_lost() {
            return;
        }
        let round_trip = self.selected_round_trip();
        let (switch, restart) = match doubt {
            Doubt::Data => (
                (round_trip + round_trip / 2).max(LEAST_DOUBT),
                (round_trip * 4).max(LEAST_RESTART),
            ),
            Doubt::Consent => (
                (round_trip * 6).max(IDLE_DOUBT),
                (round_trip * 12).max(IDLE_RESTART),
            ),
        };
        // Where the data has moved twice lately, it takes more than a slow answer to move it again.
        let (switch, restart) = match self.moves.recent(now) {
            0 | 1 => (switch, restart),
            _ => (switch.max(JITTERY_DOUBT), restart.max(IDLE_RESTART)),
        };
        self.current.watch.suspicion = Some(Suspicion {
            since: now,
            switch_at: Some(now + switch),
            restart_at: Some(now + restart),
        });
        shared.counters.paths_suspected += 1;
        // A relay that was restarted has forgotten what it gave.
        self.refresh_relays(now);
        for id in self.standbys() {
            self.current.trigger(id, false);
        }
        self.current.trigger(selected, true);
    }

    /// The system refuses to send to a remote.
    pub(crate) fn send_refused(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
    ) {
        if !self.closed && self.selected_remote() == Some((socket, remote)) {
            self.suspect(shared, now, Doubt::Data);
        }
    }

    /// A pair of the current generation answered a check.
    pub(super) fn pair_answered(&mut self, shared: &mut Shared, now: Time, id: PairId) {
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return;
        };
        pair.confirmed_at = now;
        self.restarts = 0;
        // One that this very answer makes valid is looked at again when it is.
        let Some(suspicion) = self.current.watch.suspicion.filter(|_| pair.is_valid()) else {
            return;
        };
        if self.current.selected == Some(id) {
            // The peer only had nothing to say.
            self.current.watch.suspicion = None;
            self.current.watch.streak = 0;
        } else if suspicion.switch_at.is_none_or(|at| at <= now) {
            self.fail_over(shared, now, id);
        }
    }

    /// The best standby that answered since then.
    fn best_standby(&self, now: Time, since: Time) -> Option<PairId> {
        let answers = |id, pair: &Pair| {
            pair.confirmed_at >= since
                && self.is_trusted(pair, now)
                && Some(id) != self.current.selected
        };
        self.choose(now, answers).map(|(id, _)| id)
    }

    /// Data moves to another pair, and the controlling agent says so to the peer.
    fn fail_over(&mut self, shared: &mut Shared, now: Time, to: PairId) {
        if let Some(old) = self
            .current
            .selected
            .and_then(|id| self.current.pairs.get_mut(id))
        {
            old.died(now);
        }
        self.select(shared, now);
        // The old one is shunned, so that `to` or a better one that answered has taken its place.
        debug_assert_ne!(self.current.selected, None);
        if self.role == Role::Controlling && self.current.concluded {
            self.renominate(shared, now, to);
        }
    }

    /// The path of the selected pair is gone for certain: its interface is, or its relay.
    pub(super) fn path_is_gone(&mut self, shared: &mut Shared, now: Time) {
        let alive = self.best_standby(now, Time::ZERO);
        match alive {
            Some(standby) => self.fail_over(shared, now, standby),
            // It is certain, so that it does not wait for its turn.
            None if !self.is_gathering_more() => {
                self.restart_after = now;
                self.restart_due = RestartDue::At(now);
            }
            // The first new pair that answers takes over.
            None => {
                let patience = (self.selected_round_trip() * 4).max(LEAST_RESTART);
                self.restart_after = now;
                self.current.watch.suspicion = Some(Suspicion {
                    since: now,
                    switch_at: None,
                    restart_at: Some(now + patience),
                });
            }
        }
    }

    /// Lets the selected pair be the nominated one, by means that the peer understands.
    pub(super) fn renominate(&mut self, shared: &mut Shared, now: Time, id: PairId) {
        if self.current.selected != Some(id) {
            return;
        }
        if !self.renominates() {
            // RFC 8445 section 8.1.1 has one nomination; another takes a restart (section 9).
            self.restart_alone(shared, now, RestartReason::OtherPath);
            return;
        }
        self.nominate(id);
    }

    /// Whether both sides offered renomination.
    pub(super) fn renominates(&self) -> bool {
        self.current
            .remote
            .as_ref()
            .is_some_and(|remote| remote.renomination)
    }

    /// A restart of the agent's own accord, if the last one is some time ago; where it may not, its owner is told. Whether
    /// either was done.
    pub(super) fn restart_alone(
        &mut self,
        shared: &mut Shared,
        now: Time,
        reason: RestartReason,
    ) -> bool {
        if self.restart_after > now || self.closed || self.is_unanswered() {
            return false;
        }
        self.restart_after = now + RESTART_INTERVAL * (1 << self.restarts.min(6));
        self.restarts = self.restarts.saturating_add(1);
        if self.settings.restarts_alone {
            shared.counters.restarts += 1;
            self.restart(shared, now);
        } else {
            self.emit(shared, Event::RestartDue(reason));
        }
        true
    }

    /// Whether the peer has yet to answer a restart: that one stands.
    pub(super) fn is_unanswered(&self) -> bool {
        self.current.remote.is_none() && self.previous.is_some()
    }

    /// Begins to keep standbys warm.
    pub(super) fn watch_standbys(&mut self, now: Time) {
        self.current.watch.keep_warm_at = Some(now + KEEP_WARM);
    }
}
