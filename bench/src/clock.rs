//! Timing: CPU time of this thread, medians of rounds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used.
pub(crate) fn cpu_time() -> Duration {
    // The clock exists on every Linux; nilas-bench runs on no other system.
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock");
    Duration::new(time.tv_sec() as u64, time.tv_nsec() as u32)
}

/// Nanoseconds of CPU time that one of `times` calls takes, on average.
pub(crate) fn nanoseconds_each(times: u32, mut call: impl FnMut()) -> f64 {
    let start = cpu_time();
    for _ in 0..times {
        call();
    }
    (cpu_time() - start).as_nanos() as f64 / f64::from(times)
}

/// The median; of an even count the higher one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
