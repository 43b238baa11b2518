//! The agent's state with W3C's names, patience, and the verdict (RFC 8863, RFC 8445 section 8).

use core::time::Duration;

use smallvec::SmallVec;

use super::Agent;
use super::pair::{Pair, PairId};
use crate::candidate::CandidateType;
use crate::event::{Event, GatheringState, State};
use crate::path::NoPath;
use crate::shared::Shared;
use crate::stats::PairState;
use crate::verdict::Verdict;
use nilas_turn::Time;

/// A check that was begun so long ago is sent again only seconds later, or not at all (RFC 8489 section 6.2.1).
const IN_VAIN: Duration = Duration::from_millis(3_500);

impl Agent {
    /// Brings the state up to date.
    pub(super) fn update_state(&mut self, shared: &mut Shared, now: Time) {
        let state = self.derived_state(now);
        if self.state == State::Failed && matches!(state, State::Checking | State::Connected) {
            self.try_again(now);
        }
        if state == State::Completed
            && !matches!(
                self.state,
                State::Connected | State::Completed | State::Disconnected
            )
        {
            // Whoever waits for `connected` alone must not wait for ever.
            self.set_state(shared, State::Connected, None);
        }
        if state != self.state {
            let verdict = match state {
                State::Disconnected if !self.is_silent(now) && self.awaits_connection() => {
                    Some(Verdict::ConnectionBroken)
                }
                State::Disconnected | State::Failed => Some(Verdict::ConsentExpired),
                _ => None,
            };
            self.set_state(shared, state, verdict);
        }
    }

    fn derived_state(&self, now: Time) -> State {
        let generation = &self.current;
        if self.closed {
            return State::Closed;
        }
        if generation.abandoned && generation.remote.is_none() {
            return State::Failed;
        }
        if self.lite {
            return self.lite_state(now);
        }
        // Only a restart, or a check of the peer, leads out of failure: see `revive`.
        if self.state == State::Failed && generation.patience_ends.is_some() && !self.is_revived() {
            return State::Failed;
        }
        if self.carrier().is_some() {
            if self.is_silent(now) || self.awaits_connection() {
                return State::Disconnected;
            }
            let ended = self.gathering == GatheringState::Complete && generation.remote_ended;
            return if generation.concluded && ended {
                State::Completed
            } else {
                State::Connected
            };
        }
        match generation.remote {
            Some(_) => State::Checking,
            // It restarted because it has lost its path, and the peer has not answered yet.
            None if generation.patience_ends.is_some() => State::Disconnected,
            None => State::New,
        }
    }

    /// Whether a pair may yet become valid though the agent had failed.
    fn is_revived(&self) -> bool {
        !self.current.consent_lost()
            && self
                .current
                .pairs
                .iter()
                .any(|(_, pair)| pair.is_open() || pair.is_valid())
    }

    /// Something has changed after all had failed: a relay has come, or a check of the peer. Or the first path that was found
    /// leads by a relay, after direct pairs have been checked for long. They may have failed, or be about to, because the network
    /// was away; each has one more try, or the session would stay on the first path that came back. The peer does the
    /// same at about the same time, so that NATs open.
    pub(super) fn try_again(&mut self, now: Time) {
        if self.current.concluded {
            return;
        }
        let is_in_vain = |pair: &Pair| match pair.state {
            PairState::Failed => true,
            PairState::InProgress => pair.checked_at + IN_VAIN <= now,
            _ => false,
        };
        let pairs = self.current.pairs.iter();
        let in_vain = pairs.filter(|(_, pair)| is_in_vain(pair) && self.has_ends(pair));
        for id in in_vain.map(|(id, _)| id).collect::<SmallVec<[PairId; 4]>>() {
            self.cancel_checks(id);
            if let Some(pair) = self.current.pairs.get_mut(id) {
                pair.state = PairState::Waiting;
            }
        }
    }

    /// RFC 8445 section 7.3.1.4: a check of the peer takes up a failed pair, and with it the list.
    pub(super) fn revive(&mut self, shared: &mut Shared, now: Time) {
        self.verdict = None;
        self.path.publish(Err(NoPath::NotConnected));
        self.update_state(shared, now);
    }

    pub(super) fn set_state(
        &mut self,
        shared: &mut Shared,
        state: State,
        verdict: Option<Verdict>,
    ) {
        if self.state == state {
            return;
        }
        self.state = state;
        self.verdict = verdict;
        if state == State::Failed {
            self.path.publish(Err(match verdict {
                Some(Verdict::ConsentExpired) => NoPath::ConsentExpired,
                _ => NoPath::Failed,
            }));
        }
        self.emit(shared, Event::StateChange { state, verdict });
    }

    /// After a restart has selected, the state is told again even if it is the same.
    pub(super) fn announce_state(&self, shared: &mut Shared) {
        if self.state.is_up() && self.previous.is_some() {
            let (state, verdict) = (self.state, self.verdict);
            self.emit(shared, Event::StateChange { state, verdict });
        }
    }

    /// RFC 8863 section 4: before the PAC timer ends there is no failure; afterwards there is one as
    /// soon as no pair is left that may yet succeed.
    pub(super) fn fire_patience(&mut self, shared: &mut Shared, now: Time) {
        if self.patience_deadline().is_none_or(|at| at > now) {
            return;
        }
        let verdict = match self.current.remote {
            Some(_) => self.diagnose(),
            // The peer did not answer the restart.
            None => {
                self.current.abandoned = true;
                Verdict::ConsentExpired
            }
        };
        self.set_state(shared, State::Failed, Some(verdict));
    }

    pub(super) fn patience_deadline(&self) -> Option<Time> {
        let generation = &self.current;
        let hopeful = self.state == State::Failed
            || self.carrier().is_some()
            || !self.lite
                && generation
                    .pairs
                    .iter()
                    .any(|(_, pair)| pair.is_open() || pair.is_queued());
        if hopeful {
            None
        } else {
            generation.patience_ends
        }
    }

    /// Why there is no path, as far as this agent can tell.
    pub(crate) fn diagnose(&self) -> Verdict {
        let generation = &self.current;
        if generation.consent_lost() {
            return Verdict::ConsentExpired;
        }
        if generation.remote.is_none() {
            return Verdict::NoRemoteParameters;
        }
        if generation.locals.is_empty() && self.settings.relay_only() {
            return Verdict::NoRelay { pairs: 0 };
        }
        if generation.locals.is_empty() {
            return Verdict::NoLocalCandidates;
        }
        if self.waits_for_checks() {
            return Verdict::NotChecked;
        }
        if generation.remotes.is_empty() {
            return Verdict::NoRemoteCandidates;
        }
        let pairs = generation.pairs.len() as u32;
        if pairs == 0 {
            return Verdict::NothingToPair;
        }
        if let Some(code) = generation.rejected {
            return Verdict::Rejected { code };
        }
        let answered = generation
            .remotes
            .iter()
            .any(|remote| remote.candidate.kind == CandidateType::Prflx)
            || generation
                .pairs
                .iter()
                .any(|(_, pair)| pair.requests_received > 0);
        if answered
            && !generation
                .pairs
                .iter()
                .any(|(_, pair)| pair.state == PairState::Succeeded)
        {
            return Verdict::OneWay { pairs };
        }
        match &self.turn {
            None => Verdict::RelayNeeded { pairs },
            Some(turn) if turn.has_relay() => Verdict::RelayFailed { pairs },
            Some(_) => Verdict::NoRelay { pairs },
        }
    }
}
