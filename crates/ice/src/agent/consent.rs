//! Consent to send, and keepalives (RFC 7675, RFC 8445 section 11).
//!
//! On the pair that carries the data a consent check goes out every 4 to 6 seconds, at random; it is
//! a keepalive, too; the controlling side's nominates once more what is nominated, so that both sides end on it. When one is not answered within twice the round trip, and 500 ms at the least,
//! the path is under suspicion and is probed by connectivity checks after 0.5, 1, 2 and then every
//! 4 seconds. The agent is **disconnected** 7 seconds after the last answer (6 seconds and two round
//! trips, where that is longer), and has **failed** 30
//! seconds after it, when consent expires (RFC 7675 section 5.1).
//!
//! A machine that was suspended finds itself later than it asked to be woken. The path is checked at once then; and
//! where consent has expired in its sleep, the agent restarts as soon as it is awake, if it may: RFC 7675 section 5.1 forbids
//! to go on with the old credentials, and the peer has most likely given the path up as well.

use core::time::Duration;

use super::Agent;
use super::generation::Generation;
use super::pair::PairId;
use super::standby::Doubt;
use super::transaction::{Purpose, RTO, Schedule, Transaction};
use super::trickle::scoped;
use crate::event::{RestartReason, State};
use crate::path::{Departure, NoPath};
use crate::shared::Shared;
use crate::verdict::Verdict;
use nilas_turn::Time;

/// RFC 7675 section 5.1: 5 s, randomised between 0.8 and 1.2 times of it.
const LEAST_INTERVAL: Duration = Duration::from_secs(4);
const GREATEST_INTERVAL: Duration = Duration::from_secs(6);
/// RFC 7675 section 5.1.
pub(super) const EXPIRY: Duration = Duration::from_secs(30);
/// A check was missed and the probes after it, too.
const DISCONNECTED: Duration = Duration::from_secs(7);
const GREATEST_PROBE: Duration = Duration::from_secs(4);
/// Whoever is polled so much later than it asked for has slept.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// The state of consent on a generation's selected pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consent {
    pub(super) confirmed_at: Time,
    /// When the pair took over.
    since: Time,
    pub(super) next_request: Time,
    /// When the path is probed, unless an answer comes first.
    probe_at: Option<Time>,
    /// How often it was since the last answer.
    probes: u8,
    lost: bool,
}

impl Consent {
    pub(super) const fn peek(&self) -> u64 {
        self.confirmed_at.as_nanos() ^ self.next_request.as_nanos()
    }

    /// How long after the latest probe the next one follows.
    fn probe_interval(&self) -> Duration {
        (RTO * (1 << self.probes.min(7))).min(GREATEST_PROBE)
    }

    /// Since when the path is silent: one that took over has had no time to answer before.
    fn heard_at(&self) -> Time {
        self.confirmed_at.max(self.since)
    }
}

impl Generation {
    pub(super) fn consent_lost(&self) -> bool {
        self.consent.is_some_and(|consent| consent.lost)
    }
}

impl Agent {
    /// Begins to watch the selected pair. The consent is that of its last answer: to select a pair renews nothing. Where that
    /// was long ago, a check that goes out now can still be answered in time.
    pub(super) fn watch(&mut self, shared: &mut Shared, now: Time) {
        let selected = self.current.selected;
        let pair = selected.and_then(|id| self.current.pairs.get(id));
        let confirmed_at = match pair.filter(|_| !self.lite) {
            Some(pair) => {
                let earliest = now.since(Time::ZERO + (EXPIRY - DISCONNECTED));
                pair.confirmed_at.max(Time::ZERO + earliest)
            }
            None => now,
        };
        let next_request = match self.lite {
            true => now + super::lite::KEEPALIVE,
            false => now + shared.between(LEAST_INTERVAL, GREATEST_INTERVAL),
        };
        self.current.consent = Some(Consent {
            confirmed_at,
            since: now,
            next_request,
            probe_at: None,
            probes: 0,
            lost: false,
        });
    }

    /// An authenticated answer of the peer on this pair.
    pub(super) fn confirm_consent(&mut self, generation: u32, pair: PairId, now: Time) {
        let Some(generation) = self.generation_mut(generation) else {
            return;
        };
        if generation.selected != Some(pair) {
            return;
        }
        if let Some(consent) = &mut generation.consent
            && !consent.lost
            // An answer may have waited while the machine slept.
            && consent.confirmed_at + EXPIRY > now
        {
            consent.confirmed_at = now;
            consent.probe_at = None;
            consent.probes = 0;
        }
    }

    /// RFC 7675 section 5.2: consent is revoked at once.
    pub(super) fn revoke_consent(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        pair: PairId,
    ) {
        let selected = self
            .generation(generation)
            .and_then(|generation| generation.selected);
        if selected == Some(pair) {
            self.lose_consent(shared, generation);
            self.update_state(shared, now);
        }
    }

    pub(super) fn fire_consent(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        if self.lite {
            return self.fire_lite(shared, now, buffer);
        }
        let generation = self.carrier()?;
        let (number, id) = (generation.number, generation.selected?);
        let consent = generation.consent?;
        if consent.lost {
            return None;
        }
        let has_slept = self
            .consent_deadline()
            .is_some_and(|at| at + OVERSLEPT <= now);
        if consent.confirmed_at + EXPIRY <= now {
            match has_slept && self.settings.restarts_alone {
                true => self.expired_asleep(shared, now),
                false => self.lose_consent(shared, number),
            }
            self.update_state(shared, now);
            return None;
        }
        if has_slept && number == self.current.number {
            self.suspect(shared, now, Doubt::Data);
        }
        self.update_state(shared, now);
        if consent.probe_at.is_some_and(|at| at <= now) {
            self.with_consent(|consent| {
                consent.probe_at = Some(now + consent.probe_interval());
                consent.probes = consent.probes.saturating_add(1);
            });
            if number == self.current.number {
                self.suspect(shared, now, Doubt::Consent);
            }
            return self.send_watch(shared, now, number, id, true, buffer);
        }
        if consent.next_request > now {
            return None;
        }
        let next_request = now + shared.between(LEAST_INTERVAL, GREATEST_INTERVAL);
        let patience = self.round_trip.map_or(RTO, |rtt| (rtt * 2).max(RTO));
        self.with_consent(|consent| {
            consent.next_request = next_request;
            consent.probe_at.get_or_insert(now + patience);
        });
        self.look_again(shared, now);
        self.send_watch(shared, now, number, id, false, buffer)
    }

    pub(super) fn consent_deadline(&self) -> Option<Time> {
        if self.lite {
            return self.lite_deadline();
        }
        let generation = self.carrier()?;
        let consent = generation.consent.filter(|consent| !consent.lost)?;
        let mut at = consent.next_request.min(consent.confirmed_at + EXPIRY);
        if self.state.is_up() {
            at = at.min(consent.heard_at() + self.silence());
        }
        Some(consent.probe_at.map_or(at, |probe| probe.min(at)))
    }

    /// How long the path may be silent: 7 s, and on a long path until an answer to the latest possible
    /// request, and to one more, could have come.
    fn silence(&self) -> Duration {
        let pair = self.carrier().and_then(|own| own.pairs.get(own.selected?));
        let round_trip = pair.map_or(Duration::ZERO, |pair| {
            pair.round_trip.unwrap_or(pair.answered_after)
        });
        DISCONNECTED.max(GREATEST_INTERVAL + round_trip * 2)
    }

    /// Whether the path has been silent for so long that it counts as disconnected.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        if self.lite {
            return self.misses_checks(now);
        }
        self.carrier()
            .and_then(|generation| generation.consent)
            .is_some_and(|consent| consent.heard_at() + self.silence() <= now)
    }

    /// A consent check, or a probe, each sent once.
    ///
    /// It is not paced: RFC 8445 section 14.2 spaces the checks that find a path, and these are
    /// spread in time by their random interval.
    fn send_watch(
        &mut self,
        shared: &mut Shared,
        now: Time,
        number: u32,
        id: PairId,
        probe: bool,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        let generation = self.generation_mut(number)?;
        let pair = generation.pairs.get_mut(id)?;
        let (socket, remote) = (pair.socket, pair.remote);
        match probe {
            true => pair.requests_sent += 1,
            false => pair.consent_requests_sent += 1,
        }
        let destination = generation.remotes[usize::from(remote)].address;
        let destination = scoped(destination, self.sockets[usize::from(socket)].address);
        let transaction_id = shared
            .demux
            .transaction_id(&mut shared.source, self.id.0.slot);
        let purpose = Purpose::Consent {
            generation: number,
            pair: id,
        };
        let schedule = Schedule::Once {
            wait: GREATEST_INTERVAL,
        };
        let transaction =
            Transaction::new(transaction_id, purpose, socket, destination, now, schedule);
        let transmit = self.encode(now, &transaction, buffer);
        self.transactions.push(transaction);
        transmit
    }

    /// RFC 7675 section 5.1: nothing is sent on this path any more, and these credentials never are
    /// used on it again.
    fn lose_consent(&mut self, shared: &mut Shared, number: u32) {
        self.transactions.retain(|transaction| {
            !matches!(transaction.purpose, Purpose::Consent { generation, .. } if generation == number)
        });
        if number == self.current.number {
            self.with_consent(|consent| consent.lost = true);
            self.path.publish(Err(NoPath::ConsentExpired));
            self.set_state(shared, State::Failed, Some(Verdict::ConsentExpired));
        } else {
            // The restart that is under way goes on, without the old path.
            self.end_previous(shared);
            self.path.publish(Err(NoPath::ConsentExpired));
            if self.current.remote.is_none() {
                // Nor did the peer answer the restart.
                self.current.abandoned = true;
                self.set_state(shared, State::Failed, Some(Verdict::ConsentExpired));
            }
        }
    }

    /// Consent has expired while the machine slept: the agent begins anew, and has not failed as long as the peer may
    /// still answer.
    fn expired_asleep(&mut self, shared: &mut Shared, now: Time) {
        // Whatever restarted before has nothing to do with it.
        self.restart_after = now;
        self.restart_alone(shared, now, RestartReason::PathDied);
        self.end_previous(shared);
        self.path.publish(Err(NoPath::ConsentExpired));
        if self.current.remote.is_none() {
            self.current.patience_ends = Some(now + EXPIRY);
        }
    }

    fn with_consent(&mut self, change: impl FnOnce(&mut Consent)) {
        if let Some(consent) = self
            .carrier_mut()
            .and_then(|generation| generation.consent.as_mut())
        {
            change(consent);
        }
    }
}
