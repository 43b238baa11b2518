//! The time that all cores of a server count in.

use core::time::Duration;

use nilas_turn::Time;
use tokio::time::Instant;

/// Counts from the moment it was made, in every thread the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            began: std::time::Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment that is called `time`, for a timer. One past what the system counts to is a year away.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        self.began
            .checked_add(Duration::from_nanos(time.as_nanos()))
            .map_or_else(|| Instant::now() + FAR, Instant::from_std)
    }
}
