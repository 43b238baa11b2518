//! A candidate pair: a local base and a remote address (RFC 8445 section 6.1.2).

use core::time::Duration;

use super::standby::KEEP_WARM;
use super::transaction::RTO;
use crate::arena::Key;
use crate::stats::PairState;
use nilas_turn::Time;

/// A pair's name in its generation's checklist.
pub(super) type PairId = Key;

/// Type, priority and foundation of the candidates are labels on a pair: when a peer-reflexive
/// candidate turns out to be a signalled one, the pair keeps its state, its RTT and its selection.
///
/// In the order of [`Agent`](super::Agent): first what watching a path needs.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Pair {
    /// Index of the local socket: the base.
    pub(super) socket: u16,
    /// Index of the remote candidate.
    pub(super) remote: u16,
    pub(super) state: PairState,
    /// The next check carries USE-CANDIDATE.
    pub(super) nominate: bool,
    /// The peer's USE-CANDIDATE came before the pair was valid (RFC 8445 section 7.3.1.5).
    pub(super) nomination_seen: bool,
    pub(super) nominated: bool,
    /// Index of the local candidate that the mapped address names; being there makes the pair valid.
    pub(super) valid_local: Option<u16>,
    /// Its number in the triggered-check queue, the lowest first; 0 if it is not in there.
    pub(super) turn: u32,
    pub(super) requests_sent: u32,
    pub(super) responses_received: u32,
    pub(super) requests_received: u32,
    pub(super) responses_sent: u32,
    pub(super) consent_requests_sent: u32,
    /// The value of its latest nomination, by whichever side controls, where renomination was offered.
    pub(super) nomination: u32,
    /// The round trip smoothed, in microseconds; 0 before the first answer.
    smoothed_round_trip: u32,
    /// The share of checks that were not answered lately, in 255ths.
    loss: u8,
    /// Checks in a row that were not.
    unanswered: u8,
    pub(super) round_trip: Option<Duration>,
    /// How long after its first transmission the check was answered that made the pair valid: no less
    /// than the round trip, where that could not be measured.
    pub(super) answered_after: Duration,
    pub(super) repeat: Repeat,
    /// When a check or consent check was last answered.
    pub(super) confirmed_at: Time,
    pub(super) total_round_trip: Duration,
    /// When the data left it, because it did not answer any more.
    pub(super) died_at: Option<Time>,
    pub(super) priority: u64,
    /// Both candidates' foundations.
    pub(super) foundation: (u32, u16),
    /// When the latest check was first sent.
    pub(super) checked_at: Time,
    /// How often a check of the peer has had ours repeated while it was under way.
    pub(super) retriggers: u8,
    /// Since when it has worked, in seconds since the engine began.
    works_since: u32,
}

/// So many checks in a row without an answer are no longer loss.
const INTERRUPTION: u8 = 4;

impl Pair {
    pub(super) fn new(socket: u16, remote: u16, priority: u64, foundation: (u32, u16)) -> Self {
        Self {
            socket,
            remote,
            priority,
            foundation,
            state: PairState::Frozen,
            turn: 0,
            nominate: false,
            nomination_seen: false,
            nominated: false,
            valid_local: None,
            checked_at: Time::ZERO,
            repeat: Repeat::default(),
            confirmed_at: Time::ZERO,
            died_at: None,
            nomination: 0,
            retriggers: 0,
            loss: 0,
            unanswered: 0,
            works_since: 0,
            smoothed_round_trip: 0,
            round_trip: None,
            answered_after: Duration::ZERO,
            total_round_trip: Duration::ZERO,
            requests_sent: 0,
            responses_received: 0,
            requests_received: 0,
            responses_sent: 0,
            consent_requests_sent: 0,
        }
    }

    pub(super) const fn is_valid(&self) -> bool {
        self.valid_local.is_some()
    }

    /// Whether it stands in the triggered-check queue.
    pub(super) const fn is_queued(&self) -> bool {
        self.turn != 0
    }

    /// Whether it may still become valid by itself.
    pub(super) const fn is_open(&self) -> bool {
        matches!(
            self.state,
            PairState::Frozen | PairState::Waiting | PairState::InProgress
        )
    }

    pub(super) fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
        self.total_round_trip += round_trip;
        let latest = round_trip.as_micros().clamp(1, u128::from(u32::MAX)) as u32;
        self.smoothed_round_trip = match self.smoothed_round_trip {
            0 => latest,
            // RFC 6298's gain of an eighth.
            smoothed => smoothed - smoothed / 8 + latest / 8,
        };
    }

    /// A check was answered. What was lost before it is loss, unless it was so much that the path was interrupted:
    /// a path that is checked more often would look the worse for it.
    pub(super) fn answered(&mut self) {
        self.loss -= self.loss.div_ceil(16);
        let missed = core::mem::take(&mut self.unanswered);
        if missed < INTERRUPTION {
            for _ in 0..missed {
                self.loss += (u8::MAX - self.loss).div_ceil(16);
            }
        }
    }

    /// A check was not.
    pub(super) const fn missed(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// It has begun to work.
    pub(super) fn begin(&mut self, now: Time) {
        self.works_since = (now.as_nanos() / 1_000_000_000) as u32;
    }

    /// It is left because it does not work any more.
    pub(super) fn died(&mut self, now: Time) {
        self.died_at = Some(now);
        self.begin(now);
    }

    /// Whether an answer is overdue: to the latest check, or since it should have been checked twice.
    pub(super) fn owes_answer(&self, now: Time) -> bool {
        let patience = (self.answered_after * 2).max(RTO);
        let overdue = self.checked_at > self.confirmed_at && self.checked_at + patience <= now;
        overdue || self.confirmed_at + KEEP_WARM * 2 < now
    }

    pub(super) fn age(&self, now: Time) -> Duration {
        now.since(Time::ZERO)
            .saturating_sub(Duration::from_secs(self.works_since.into()))
    }

    pub(super) fn smoothed_round_trip(&self) -> Option<Duration> {
        (self.smoothed_round_trip > 0)
            .then(|| Duration::from_micros(self.smoothed_round_trip.into()))
    }

    pub(super) fn loss_percent(&self) -> u8 {
        (u16::from(self.loss) * 100 / 255) as u8
    }
}

/// When a check without an answer is followed by another, as a transaction of its own.
///
/// The RTO of a transaction stays at 500 ms or more (RFC 8445 section 14.3); a lost datagram would
/// cost that much. New transactions are only bound to the pacing of section 14.2, so where a pacing
/// slot is free a pair is checked anew after about 1.5 round trips, ever more slowly, a few times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeat {
    /// When the next one is due, if there is to be one.
    pub(super) at: Option<Time>,
    interval: Duration,
    count: u8,
}

impl Repeat {
    /// So many repetitions at the most; their intervals grow by half each time.
    const BUDGET: u8 = 8;
    /// Where no round trip has been measured.
    const FIRST: Duration = Duration::from_millis(100);
    /// However short the measured round trip: a busy peer is not a lost packet.
    const LEAST: Duration = Duration::from_millis(40);

    /// The first check was sent.
    pub(super) fn start(&mut self, now: Time, round_trip: Option<Duration>) {
        let interval = round_trip.map_or(Self::FIRST, |rtt| (rtt + rtt / 2).max(Self::LEAST));
        *self = Self {
            at: Some(now + interval),
            interval,
            count: 0,
        };
    }

    /// When the first repetition is due, or was sent while no other has been.
    pub(super) fn first_at(&self) -> Option<Time> {
        match self.count {
            0 => self.at,
            // The second is due an interval after the first.
            1 => self
                .at
                .map(|at| Time::ZERO + at.since(Time::ZERO + self.interval)),
            _ => None,
        }
    }

    /// A repeated check was sent.
    pub(super) fn advance(&mut self, now: Time) {
        self.count += 1;
        self.interval += self.interval / 2;
        self.at = (self.count < Self::BUDGET).then(|| now + self.interval);
    }

    pub(super) fn stop(&mut self) {
        self.at = None;
    }
}
