//! Wires: what happens to a datagram between two points.

use core::time::Duration;

use rand_core::Rng;

/// One direction between an interface and its realm.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wire {
    /// The least time a datagram takes.
    pub delay: Duration,
    /// The most that is added to it, evenly distributed. With jitter, datagrams overtake each other.
    pub jitter: Duration,
    /// The probability that a datagram is lost, from 0 to 1.
    pub loss: f64,
    /// The probability that a datagram arrives twice, from 0 to 1.
    pub duplication: f64,
}

impl Wire {
    /// A wire that delays and does nothing worse.
    pub const fn new(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
        }
    }

    /// The delays of the copies that arrive: of none, one or two.
    pub(crate) fn carry(&self, random: &mut impl Rng) -> [Option<Duration>; 2] {
        if chance(self.loss, random) {
            return [None, None];
        }
        let first = self.one_delay(random);
        let second = chance(self.duplication, random).then(|| self.one_delay(random));
        [Some(first), second]
    }

    fn one_delay(&self, random: &mut impl Rng) -> Duration {
        if self.jitter.is_zero() {
            return self.delay;
        }
        self.delay + self.jitter.mul_f64(unit(random))
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

    fn outcomes(wire: Wire) -> Vec<[Option<Duration>; 2]> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        (0..10_000).map(|_| wire.carry(&mut random)).collect()
    }

    #[test]
    fn a_plain_wire_only_delays_and_draws_nothing() {
        let (mut used, fresh) = (ChaCha8Rng::seed_from_u64(1), ChaCha8Rng::seed_from_u64(1));
        let delay = Duration::from_millis(3);
        assert_eq!(Wire::new(delay).carry(&mut used), [Some(delay), None]);
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
        let lost = outcomes.iter().filter(|copies| copies[0].is_none()).count();
        let doubled = outcomes.iter().filter(|copies| copies[1].is_some()).count();
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
        assert!(outcomes(wire).iter().all(|copies| copies == &[None, None]));
    }

    #[test]
    fn jitter_spreads_over_its_range() {
        let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(4));
        let outcomes = outcomes(Wire {
            jitter,
            ..Wire::new(delay)
        });
        let delays: Vec<_> = outcomes.iter().filter_map(|copies| copies[0]).collect();
        assert!(delays.iter().all(|d| (delay..=delay + jitter).contains(d)));
        assert!(delays.iter().any(|d| *d < delay + jitter / 10));
        assert!(delays.iter().any(|d| *d > delay + jitter * 9 / 10));
    }
}
