//! The monotonic clock, as the engine counts time.

use std::time::{Duration, Instant};

use nilas_ice::Time;

/// Counts the nanoseconds since it was made, which is when its engine begins.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that stands at [`Time::ZERO`] now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment that is called `time`, for a timer.
    ///
    /// A moment past what the system can count to is a year away: whoever waits for it looks again then.
    pub fn instant(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let since_start = Duration::from_nanos(time.as_nanos());
        self.began
            .checked_add(since_start)
            .unwrap_or_else(|| Instant::now() + FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_instants_agree() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert!(clock.instant(Time::ZERO) <= clock.instant(first));
        assert_eq!(
            clock.instant(Time::from_millis(7)) - clock.instant(Time::ZERO),
            Duration::from_millis(7)
        );
        assert!(clock.instant(Time::from_nanos(u64::MAX)) > Instant::now());
    }
}
