//! What users and all of them together may use (RFC 8656 section 21.3.1). Shared by the cores of a server: a lock is taken when an
//! allocation begins or ends, never for a packet.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::time::Time;

/// The users that have allocations, and what all use together.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: Mutex<BTreeMap<Arc<str>, Arc<Usage>>>,
    total: Usage,
}

/// What one user, or all, use now.
#[derive(Debug, Default)]
struct Usage {
    allocations: AtomicUsize,
    bandwidth: Bucket,
}

/// How many allocations there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllocationLimits {
    pub(super) per_user: usize,
    pub(super) total: usize,
}

/// Which limit stands against an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OverLimit {
    User,
    Total,
}

/// An allocation that is paid for until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    accounts: Arc<Accounts>,
    user: Arc<str>,
    usage: Arc<Usage>,
}

impl Accounts {
    /// Charges one allocation to a user.
    pub(super) fn charge(
        self: &Arc<Self>,
        user: &str,
        limits: AllocationLimits,
    ) -> Result<Charge, OverLimit> {
        let mut users = self.users();
        // Under the lock nobody else counts up; a count that goes down meanwhile only refuses too much.
        if self.total.allocations.load(Ordering::Relaxed) >= limits.total {
            return Err(OverLimit::Total);
        }
        let (user, usage) = match users.get_key_value(user) {
            Some((user, usage)) => (Arc::clone(user), Arc::clone(usage)),
            None => (Arc::from(user), Arc::new(Usage::default())),
        };
        if usage.allocations.load(Ordering::Relaxed) >= limits.per_user {
            return Err(OverLimit::User);
        }
        usage.allocations.fetch_add(1, Ordering::Relaxed);
        self.total.allocations.fetch_add(1, Ordering::Relaxed);
        users
            .entry(Arc::clone(&user))
            .or_insert_with(|| Arc::clone(&usage));
        Ok(Charge {
            accounts: Arc::clone(self),
            user,
            usage,
        })
    }

    /// How many users have something.
    pub(super) fn users_len(&self) -> usize {
        self.users().len()
    }

    pub(super) fn allocations(&self) -> usize {
        self.total.allocations.load(Ordering::Relaxed)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Usage>>> {
        // What the lock protects is consistent between any two statements.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Charge {
    /// Another charge to the same user, beyond the limit if need be: for what comes with an allocation.
    pub(super) fn another(&self) -> Self {
        let _users = self.accounts.users();
        self.usage.allocations.fetch_add(1, Ordering::Relaxed);
        self.accounts
            .total
            .allocations
            .fetch_add(1, Ordering::Relaxed);
        Self {
            accounts: Arc::clone(&self.accounts),
            user: Arc::clone(&self.user),
            usage: Arc::clone(&self.usage),
        }
    }

    pub(super) const fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// Takes bandwidth from the user and from the total.
    ///
    /// # Errors
    /// How long until there is some; nothing is taken then.
    pub(super) fn take(&self, now: Time, bytes: usize, limits: Bandwidth) -> Result<(), Duration> {
        if let Some(rate) = limits.per_user {
            self.usage.bandwidth.take(now, bytes, rate)?;
        }
        if let Some(rate) = limits.total {
            self.accounts.total.bandwidth.take(now, bytes, rate)?;
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut users = self.accounts.users();
        self.accounts
            .total
            .allocations
            .fetch_sub(1, Ordering::Relaxed);
        if self.usage.allocations.fetch_sub(1, Ordering::Relaxed) == 1 {
            // RFC 8656 section 5 limits what a user uses at one time: a user with nothing is forgotten.
            users.remove(&self.user);
        }
    }
}

/// Bytes of application data a second, in both directions together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bandwidth {
    pub(super) per_user: Option<u64>,
    pub(super) total: Option<u64>,
}

/// A token bucket that holds one second's worth, in one number: when it will be full.
#[derive(Debug, Default)]
struct Bucket {
    full_at: AtomicU64,
}

impl Bucket {
    fn take(&self, now: Time, bytes: usize, bytes_per_second: u64) -> Result<(), Duration> {
        const SECOND: u64 = 1_000_000_000;
        let now = now.as_nanos();
        let cost = (bytes as u64).saturating_mul(SECOND) / bytes_per_second.max(1);
        let mut wait = 0;
        // A datagram larger than the bucket passes when the bucket is full: else it never could.
        let room = SECOND.max(cost);
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let next = full_at.max(now).saturating_add(cost);
                wait = next.saturating_sub(now).saturating_sub(room);
                (wait == 0).then_some(next)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AllocationLimits = AllocationLimits {
        per_user: 2,
        total: 3,
    };

    #[test]
    fn both_limits_hold_and_nothing_is_left() {
        let accounts = Arc::new(Accounts::default());
        let first = accounts.charge("ann", LIMITS).unwrap();
        let second = accounts.charge("ann", LIMITS).unwrap();
        assert_eq!(accounts.charge("ann", LIMITS).unwrap_err(), OverLimit::User);
        let third = accounts.charge("bob", LIMITS).unwrap();
        assert_eq!(
            accounts.charge("cid", LIMITS).unwrap_err(),
            OverLimit::Total
        );
        assert_eq!(accounts.users_len(), 2, "a refused user leaves nothing");
        drop(second);
        let again = accounts.charge("ann", LIMITS).unwrap();
        drop((first, third, again));
        assert_eq!((accounts.users_len(), accounts.allocations()), (0, 0));
    }

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_the_rate() {
        let bucket = Bucket::default();
        let now = Time::from_millis(5_000);
        for _ in 0..10 {
            bucket.take(now, 100, 1_000).unwrap();
        }
        assert_eq!(
            bucket.take(now, 100, 1_000),
            Err(Duration::from_millis(100))
        );
        let later = now + Duration::from_millis(100);
        assert_eq!(bucket.take(later, 100, 1_000), Ok(()));
        assert!(bucket.take(later, 1, 1_000).is_err());
        // A datagram of two seconds' worth waits for a full bucket.
        assert!(bucket.take(later, 2_000, 1_000).is_err());
        assert_eq!(
            bucket.take(later + Duration::from_secs(1), 2_000, 1_000),
            Ok(())
        );
    }
}
