//! Time as the engine knows it: a number that its caller brings.

use core::ops::Add;
use core::time::Duration;

/// A moment, in nanoseconds since whoever drives it began.
///
/// Nothing here has a clock. Every call brings the time, so that a recorded list of inputs can hold
/// it and replay to the same bytes. All arithmetic saturates; a time that runs backwards is taken as
/// no time having passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment it all began.
    pub const ZERO: Self = Self(0);

    /// The moment `nanoseconds` after it all began.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// The moment `milliseconds` after it all began.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// Nanoseconds since whoever drives it began.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}
