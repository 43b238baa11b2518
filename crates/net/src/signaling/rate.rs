//! How often something may happen: a token bucket in a single number.

use core::time::Duration;

/// So many at once, and then one in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: u32,
    interval: Duration,
}

/// How much of a [`Rate`] has been used. A fresh one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Duration,
}

impl Rate {
    /// `burst` at once (one at the least), then one in each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst: if burst == 0 { 1 } else { burst },
            interval,
        }
    }

    /// Takes one from the bucket. Times are measured from any fixed moment.
    ///
    /// # Errors
    /// How long to wait when there is none; nothing is taken then.
    pub fn take(self, bucket: &mut Bucket, now: Duration) -> Result<(), Duration> {
        match self.wait(*bucket, now) {
            Duration::ZERO => {
                bucket.full_at = bucket.full_at.max(now).saturating_add(self.interval);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// How long until one can be taken: zero if there is one now.
    pub fn wait(self, bucket: Bucket, now: Duration) -> Duration {
        // The bucket is empty when it takes `burst` intervals to fill, and holds one when it takes one less.
        let slack = self.interval.saturating_mul(self.burst - 1);
        bucket.full_at.saturating_sub(now).saturating_sub(slack)
    }
}

impl Bucket {
    /// Whether nothing is missing, so that forgetting the bucket changes nothing.
    pub fn is_full(self, now: Duration) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_one_in_each_interval() {
        let rate = Rate::new(3, SECOND);
        let mut bucket = Bucket::default();
        let now = SECOND * 100;
        for _ in 0..3 {
            assert_eq!(rate.take(&mut bucket, now), Ok(()));
        }
        assert_eq!(rate.take(&mut bucket, now), Err(SECOND));
        assert_eq!(
            rate.take(&mut bucket, now + SECOND / 4),
            Err(SECOND * 3 / 4)
        );
        assert_eq!(rate.take(&mut bucket, now + SECOND), Ok(()));
        assert_eq!(rate.take(&mut bucket, now + SECOND), Err(SECOND));
    }

    #[test]
    fn it_fills_up_to_the_burst_and_no_further() {
        let rate = Rate::new(2, SECOND);
        let mut bucket = Bucket::default();
        rate.take(&mut bucket, Duration::ZERO).unwrap();
        assert!(!bucket.is_full(SECOND / 2));
        let now = SECOND * 1000;
        assert!(bucket.is_full(now));
        assert_eq!(rate.take(&mut bucket, now), Ok(()));
        assert_eq!(rate.take(&mut bucket, now), Ok(()));
        assert_eq!(rate.take(&mut bucket, now), Err(SECOND));
    }

    #[test]
    fn time_running_backwards_gives_nothing_away() {
        let rate = Rate::new(1, SECOND);
        let mut bucket = Bucket::default();
        rate.take(&mut bucket, SECOND * 10).unwrap();
        assert_eq!(rate.take(&mut bucket, SECOND * 5), Err(SECOND * 6));
    }
}
