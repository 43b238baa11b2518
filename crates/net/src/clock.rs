//! The monotonic clock, as the engine counts time: also while the machine is suspended, where the system has such a clock.

use std::time::{Duration, Instant};

use nilas_ice::Time;

/// Counts the nanoseconds since it was made, which is when its engine begins.
///
/// On Linux it goes on while the machine is suspended, as the world does: NATs forget, and the peer's consent expires. The
/// timers of the runtime stand still meanwhile, so that a sleeper learns of it with the first packet or event, or when
/// its next timer ends. On other systems it stands still, or goes on, as [`Instant`] does.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    /// What the clock that goes on showed then.
    booted: Option<Duration>,
}

impl Clock {
    /// A clock that stands at [`Time::ZERO`] now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            booted: since_boot(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        let elapsed = self.with_sleep().unwrap_or_else(|| self.began.elapsed());
        Time::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment that is called `time`, for a timer.
    ///
    /// A moment past what the system can count to is a year away: whoever waits for it looks again then.
    pub fn instant(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let since_start = Duration::from_nanos(time.as_nanos()).saturating_sub(self.slept());
        self.began
            .checked_add(since_start)
            .unwrap_or_else(|| Instant::now() + FAR)
    }

    /// The time since it began, with what the machine has slept.
    fn with_sleep(&self) -> Option<Duration> {
        Some(since_boot()?.saturating_sub(self.booted?))
    }

    /// What the machine has slept, in whole milliseconds: the two clocks are not read at one moment.
    fn slept(&self) -> Duration {
        let Some(elapsed) = self.with_sleep() else {
            return Duration::ZERO;
        };
        let slept = elapsed.saturating_sub(self.began.elapsed());
        slept.saturating_sub(Duration::from_nanos(u64::from(
            slept.subsec_nanos() % 1_000_000,
        )))
    }
}

/// A clock that shows only every few milliseconds that time has passed, and costs a quarter of what [`Clock::now`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks(Option<Duration>);

impl Ticks {
    /// Whether time has passed since this was asked last, which it has where nobody asked before or the system has no such
    /// clock.
    pub fn passed(&mut self) -> bool {
        let shown = coarse();
        let passed = shown.is_none() || self.0 != shown;
        self.0 = shown;
        passed
    }
}

#[cfg(target_os = "linux")]
fn coarse() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .ok()
        .map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
const fn coarse() -> Option<Duration> {
    None
}

/// The time since the machine was started, suspended or not.
#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .ok()
        .map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
const fn since_boot() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_machine_has_slept_counts_and_timers_are_set_by_what_it_was_awake() {
        // No machine that runs this has been up for less.
        const SLEPT: Duration = Duration::from_secs(2);
        let mut clock = Clock::start();
        let booted = clock.booted.expect("Linux has such a clock");
        // As if the machine had slept since.
        clock.booted = booted.checked_sub(SLEPT);
        assert!(clock.booted.is_some(), "{booted:?}");
        let now = clock.now();
        assert!(now >= Time::ZERO + SLEPT);
        let hour = Duration::from_secs(3600);
        let from_now = clock
            .instant(now + hour)
            .saturating_duration_since(Instant::now());
        assert!(from_now <= hour + Duration::from_millis(1), "{from_now:?}");
        assert!(from_now > SLEPT, "{from_now:?}");
    }

    #[test]
    fn a_tick_passes_at_first_and_as_time_does() {
        let mut ticks = Ticks::default();
        assert!(ticks.passed());
        // Ends with the next one, within milliseconds, or never where the clock stands.
        while !ticks.passed() {
            std::thread::yield_now();
        }
    }

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
