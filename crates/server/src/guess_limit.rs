//! How fast codes can be guessed: not fast.

use core::time::Duration;
use std::collections::BTreeMap;

use nilas_net::signaling::rate::{Bucket, Rate};

use crate::source::Source;

/// Sources kept before the first look for those that can be forgotten.
const FIRST_SWEEP: usize = 1024;

/// Counts codes that led to no peer, for each source and for all together.
///
/// The memory is bounded by the overall rate: a source is kept only while its bucket is not full, and
/// no more buckets are tapped in that time than the overall rate allows.
#[derive(Debug)]
pub(crate) struct GuessLimit {
    each: Rate,
    together: Rate,
    together_bucket: Bucket,
    buckets: BTreeMap<Source, Bucket>,
    sweep_at: usize,
}

impl GuessLimit {
    pub(crate) fn new(each: Rate, together: Rate) -> Self {
        Self {
            each,
            together,
            together_bucket: Bucket::default(),
            buckets: BTreeMap::new(),
            sweep_at: FIRST_SWEEP,
        }
    }

    /// Whether a code from there may be looked up. It must not be otherwise, not even to find out that it
    /// is right: an answer to one of many guesses is what a guesser is after.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn check(&self, source: Source, now: Duration) -> Result<(), Duration> {
        let bucket = self.buckets.get(&source).copied().unwrap_or_default();
        let wait = self
            .each
            .wait(bucket, now)
            .max(self.together.wait(self.together_bucket, now));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Counts a code that led to no peer, after [`check`](Self::check) has allowed it.
    pub(crate) fn count(&mut self, source: Source, now: Duration) {
        if self.buckets.len() >= self.sweep_at {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at = FIRST_SWEEP.max(2 * self.buckets.len());
        }
        // `check` found one in each bucket.
        let _ = self.each.take(self.buckets.entry(source).or_default(), now);
        let _ = self.together.take(&mut self.together_bucket, now);
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn source(number: u32) -> Source {
        Source::from(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn all_sources_together_are_limited() {
        let mut limit = GuessLimit::new(Rate::new(10, SECOND), Rate::new(20, SECOND / 10));
        let now = SECOND;
        for number in 0..20 {
            limit.check(source(number), now).unwrap();
            limit.count(source(number), now);
        }
        assert_eq!(limit.check(source(99), now), Err(SECOND / 10));
        assert_eq!(limit.check(source(99), now + SECOND / 10), Ok(()));
    }

    #[test]
    fn sources_are_forgotten_once_that_changes_nothing() {
        let mut limit = GuessLimit::new(
            Rate::new(10, SECOND),
            Rate::new(u32::MAX, Duration::from_nanos(1)),
        );
        for number in 0..100_000u32 {
            limit.count(source(number), SECOND * number / 100);
        }
        assert!(
            limit.buckets.len() <= FIRST_SWEEP,
            "{}",
            limit.buckets.len()
        );
    }
}
