//! Time as the engine knows it: a number that its caller brings.

use core::cmp::Ordering;
use core::fmt;
use core::num::NonZeroU64;
use core::ops::Add;
use core::time::Duration;

/// A moment, in nanoseconds since whoever drives it began.
///
/// Nothing here has a clock. Every call brings the time, so that a recorded list of inputs can hold
/// it and replay to the same bytes. All arithmetic saturates; a time that runs backwards is taken as
/// no time having passed.
///
/// An `Option<Time>` is as small as a `Time`, because agents hold many.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    /// The nanoseconds that are left until the last moment that can be told, and one more.
    left: NonZeroU64,
}

impl Time {
    /// The moment it all began.
    pub const ZERO: Self = Self::from_nanos(0);

    /// The moment `nanoseconds` after it all began; at most 2^64 - 2 of them.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        let left = match NonZeroU64::new(!nanoseconds) {
            Some(left) => left,
            None => NonZeroU64::MIN,
        };
        Self { left }
    }

    /// The moment `milliseconds` after it all began.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self::from_nanos(milliseconds.saturating_mul(1_000_000))
    }

    /// Nanoseconds since whoever drives it began.
    pub const fn as_nanos(self) -> u64 {
        !self.left.get()
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.as_nanos().saturating_sub(earlier.as_nanos()))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_nanos().cmp(&other.as_nanos())
    }
}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Time").field(&self.as_nanos()).finish()
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        let later = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Self::from_nanos(self.as_nanos().saturating_add(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ordered_and_saturate() {
        let order = [0, 1, 1 << 40, u64::MAX - 1].map(Time::from_nanos);
        assert!(order.is_sorted());
        assert_eq!(order[0], Time::ZERO);
        assert_eq!(order[2].as_nanos(), 1 << 40);
        assert_eq!(
            order[2].since(order[1]),
            Duration::from_nanos((1 << 40) - 1)
        );
        assert_eq!(order[1].since(order[2]), Duration::ZERO);
        let last = Time::from_nanos(u64::MAX);
        assert_eq!(last, order[3]);
        assert_eq!(order[1] + Duration::MAX, last);
        assert_eq!(Time::from_millis(u64::MAX) + Duration::from_secs(1), last);
        assert_eq!(size_of::<Option<Time>>(), 8);
    }
}
