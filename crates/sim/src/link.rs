//! Wires: what happens to a packet between two points.

use core::time::Duration;

use nilas_ice::Time;
use rand_core::Rng;

use crate::trace::Fate;

/// One direction between an interface and its realm.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wire {
    /// The least time a packet takes.
    pub delay: Duration,
    /// The most that is added to it, evenly distributed. With jitter, packets overtake each other.
    pub jitter: Duration,
    /// The probability that a packet is lost, from 0 to 1, whatever became of the others.
    pub loss: f64,
    /// Losses that come in bursts, besides the others.
    pub bursts: Option<Bursts>,
    /// The probability that a packet arrives twice, from 0 to 1.
    pub duplication: f64,
    /// The probability that a packet is held back by `reordering_delay`, so that later ones overtake it, from 0
    /// to 1.
    pub reordering: f64,
    /// How long a packet is held back.
    pub reordering_delay: Duration,
    /// How many bits a second the wire carries; `None` for any number. Packets wait for each other.
    pub bits_per_second: Option<u64>,
    /// The longest time that a packet waits for those before it; one that would have to wait longer is dropped.
    /// Without a rate nothing waits.
    pub queue: Duration,
    /// The most bytes that an IP packet may have. Larger ones vanish without an ICMP error.
    pub mtu: Option<u16>,
}

/// Losses in bursts, by the model of Gilbert and Elliott: the wire is good or bad, and changes at a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the model has these three")]
pub struct Bursts {
    /// The probability that a packet makes a good wire bad. A burst begins every 1 / `begin` packets.
    pub begin: f64,
    /// The probability that a packet makes a bad wire good. A burst is 1 / `end` packets long.
    pub end: f64,
    /// The probability that a packet is lost while the wire is bad.
    pub loss: f64,
}

/// What a wire remembers of earlier packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WireState {
    /// When the last packet has left the sender's queue.
    free_at: Time,
    bad: bool,
}

impl Wire {
    /// A wire that delays and does nothing worse.
    pub const fn new(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            bursts: None,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::from_millis(5),
            bits_per_second: None,
            queue: Duration::from_millis(100),
            mtu: None,
        }
    }

    /// The delays of the copies that arrive, one or two; or why none does.
    pub(crate) fn carry(
        &self,
        state: &mut WireState,
        now: Time,
        ip_bytes: usize,
        random: &mut impl Rng,
    ) -> Result<[Option<Duration>; 2], Fate> {
        if self.mtu.is_some_and(|mtu| ip_bytes > usize::from(mtu)) {
            return Err(Fate::TooLarge);
        }
        let waiting = self.queue_up(state, now, ip_bytes)?;
        if let Some(bursts) = self.bursts {
            let turn = if state.bad { bursts.end } else { bursts.begin };
            state.bad ^= chance(turn, random);
            if state.bad && chance(bursts.loss, random) {
                return Err(Fate::Lost);
            }
        }
        if chance(self.loss, random) {
            return Err(Fate::Lost);
        }
        let first = self.one_delay(random);
        let second = chance(self.duplication, random).then(|| self.one_delay(random));
        Ok([Some(waiting + first), second.map(|second| waiting + second)])
    }

    /// How long a packet waits until it has left.
    fn queue_up(
        &self,
        state: &mut WireState,
        now: Time,
        ip_bytes: usize,
    ) -> Result<Duration, Fate> {
        let Some(rate) = self.bits_per_second else {
            return Ok(Duration::ZERO);
        };
        let begins = state.free_at.max(now);
        if begins.since(now) > self.queue {
            return Err(Fate::QueueFull);
        }
        let nanoseconds = ip_bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        state.free_at = begins + takes;
        Ok(state.free_at.since(now))
    }

    fn one_delay(&self, random: &mut impl Rng) -> Duration {
        let jitter = if self.jitter.is_zero() {
            Duration::ZERO
        } else {
            self.jitter.mul_f64(unit(random))
        };
        let held_back = if chance(self.reordering, random) {
            self.reordering_delay
        } else {
            Duration::ZERO
        };
        self.delay + jitter + held_back
    }
}

impl Default for Wire {
    /// A wire without delay or loss.
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

/// Both directions between an interface and its realm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// From the interface into the realm.
    pub up: Wire,
    /// From the realm to the interface.
    pub down: Wire,
}

impl Link {
    /// The same wire in both directions: a datagram takes `delay` in each.
    pub const fn new(delay: Duration) -> Self {
        Self {
            up: Wire::new(delay),
            down: Wire::new(delay),
        }
    }

    /// A link of two different wires.
    pub const fn asymmetric(up: Wire, down: Wire) -> Self {
        Self { up, down }
    }

    /// The same link with the wire of each direction changed in the same way.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Wire)) -> Self {
        change(&mut self.up);
        change(&mut self.down);
        self
    }

    /// The same link that loses this share of the datagrams of each direction, from 0 to 1.
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.up.loss = loss;
        self.down.loss = loss;
        self
    }

    /// The same link that adds up to this to the delay, in each direction.
    pub const fn with_jitter(mut self, jitter: Duration) -> Self {
        self.up.jitter = jitter;
        self.down.jitter = jitter;
        self
    }

    /// The same link that delivers this share of the datagrams of each direction twice, from 0 to 1.
    pub const fn with_duplication(mut self, duplication: f64) -> Self {
        self.up.duplication = duplication;
        self.down.duplication = duplication;
        self
    }
}

/// Whether something of this probability happens. What is certain costs no random number, so that a
/// world without loss stays the same world when something is added to it.
fn chance(probability: f64, random: &mut impl Rng) -> bool {
    probability > 0.0 && (probability >= 1.0 || unit(random) < probability)
}

/// Evenly distributed from 0 to just below 1, in steps that an f64 holds exactly.
fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    type Outcome = Result<[Option<Duration>; 2], Fate>;

    /// Of packets of 100 bytes, one each millisecond.
    fn outcomes(wire: Wire) -> Vec<Outcome> {
        let (mut random, mut state) = (ChaCha8Rng::seed_from_u64(1), WireState::default());
        (0..10_000)
            .map(|n| wire.carry(&mut state, Time::from_millis(n), 100, &mut random))
            .collect()
    }

    fn is_lost(outcome: &Outcome) -> bool {
        *outcome == Err(Fate::Lost)
    }

    #[test]
    fn a_plain_wire_only_delays_and_draws_nothing() {
        let (mut used, fresh) = (ChaCha8Rng::seed_from_u64(1), ChaCha8Rng::seed_from_u64(1));
        let delay = Duration::from_millis(3);
        let mut state = WireState::default();
        let outcome = Wire::new(delay).carry(&mut state, Time::ZERO, 100, &mut used);
        assert_eq!(outcome, Ok([Some(delay), None]));
        assert_eq!(used, fresh);
    }

    #[test]
    fn loss_and_duplication_are_as_frequent_as_said() {
        let wire = Wire {
            loss: 0.2,
            duplication: 0.1,
            ..Wire::default()
        };
        let outcomes = outcomes(wire);
        let lost = outcomes.iter().filter(|outcome| is_lost(outcome)).count();
        let doubled = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok([_, Some(_)])))
            .count();
        // Five standard deviations around 2,000 and around 800.
        assert!((1_800..2_200).contains(&lost), "{lost} lost");
        assert!((660..940).contains(&doubled), "{doubled} doubled");
    }

    #[test]
    fn certain_loss_loses_everything() {
        let wire = Wire {
            loss: 1.0,
            ..Wire::default()
        };
        assert!(outcomes(wire).iter().all(is_lost));
    }

    #[test]
    fn jitter_spreads_over_its_range() {
        let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(4));
        let outcomes = outcomes(Wire {
            jitter,
            ..Wire::new(delay)
        });
        let delays: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.ok()?[0])
            .collect();
        assert!(delays.iter().all(|d| (delay..=delay + jitter).contains(d)));
        assert!(delays.iter().any(|d| *d < delay + jitter / 10));
        assert!(delays.iter().any(|d| *d > delay + jitter * 9 / 10));
    }

    #[test]
    fn bursts_are_as_long_and_as_frequent_as_said() {
        let outcomes = outcomes(Wire {
            bursts: Some(Bursts {
                begin: 0.01,
                end: 0.2,
                loss: 1.0,
            }),
            ..Wire::default()
        });
        let lost: Vec<bool> = outcomes.iter().map(is_lost).collect();
        let count = lost.iter().filter(|lost| **lost).count();
        let bursts = lost
            .windows(2)
            .filter(|pair| pair == &[false, true])
            .count();
        // About 95 bursts of five packets.
        assert!((60..140).contains(&bursts), "{bursts} bursts");
        assert!((300..700).contains(&count), "{count} lost");
        assert!(count > 3 * bursts, "{count} lost in {bursts} bursts");
    }

    #[test]
    fn a_wire_with_a_rate_lets_packets_wait_and_drops_those_that_would_wait_too_long() {
        // 100 bytes take a millisecond.
        let wire = Wire {
            bits_per_second: Some(800_000),
            queue: Duration::from_millis(3),
            ..Wire::default()
        };
        let (mut random, mut state) = (ChaCha8Rng::seed_from_u64(1), WireState::default());
        let mut carry = |at| wire.carry(&mut state, Time::from_millis(at), 100, &mut random);
        let after = |milliseconds| Ok([Some(Duration::from_millis(milliseconds)), None]);
        let together = [carry(0), carry(0), carry(0), carry(0), carry(0)];
        assert_eq!(
            together,
            [after(1), after(2), after(3), after(4), Err(Fate::QueueFull)]
        );
        assert_eq!(carry(10), after(1));
    }

    #[test]
    fn packets_above_the_mtu_vanish() {
        let wire = Wire {
            mtu: Some(1_280),
            ..Wire::default()
        };
        let (mut random, mut state) = (ChaCha8Rng::seed_from_u64(1), WireState::default());
        let mut carry = |bytes| wire.carry(&mut state, Time::ZERO, bytes, &mut random);
        assert_eq!(carry(1_280), Ok([Some(Duration::ZERO), None]));
        assert_eq!(carry(1_281), Err(Fate::TooLarge));
    }

    #[test]
    fn some_packets_are_held_back() {
        let held = Duration::from_millis(5);
        let outcomes = outcomes(Wire {
            reordering: 0.3,
            reordering_delay: held,
            ..Wire::default()
        });
        let count = outcomes
            .iter()
            .filter(|outcome| **outcome == Ok([Some(held), None]))
            .count();
        assert!((2_750..3_250).contains(&count), "{count} held back");
    }
}
