//! What users and all of them together may use (RFC 8656 section 21.3.1). Shared by the cores of a server: a lock is taken when an
//! allocation begins or ends, never for a packet.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::time::Time;

/// The users that have allocations, and what all use together.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: Mutex<Users>,
    total: Usage,
}

/// Who is known.
#[derive(Debug, Default)]
struct Users {
    known: BTreeMap<Arc<str>, Arc<Usage>>,
    /// Those that have no allocation any more, by the time when their bucket is full: whoever ends an allocation
    /// and makes another at once has no more bandwidth for it. Nobody takes from a bucket without an allocation,
    /// so the time stands as long as the user stands here.
    leaving: BTreeSet<(u64, Arc<str>)>,
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
        now: Time,
        user: &str,
        limits: AllocationLimits,
    ) -> Result<Charge, OverLimit> {
        let mut users = self.users();
        users.forget(now);
        // Under the lock nobody else counts up; a count that goes down meanwhile only refuses too much.
        if self.total.allocations.load(Ordering::Relaxed) >= limits.total {
            return Err(OverLimit::Total);
        }
        let (user, usage) = match users.known.get_key_value(user) {
            Some((user, usage)) => (Arc::clone(user), Arc::clone(usage)),
            None => (Arc::from(user), Arc::new(Usage::default())),
        };
        if usage.allocations.load(Ordering::Relaxed) >= limits.per_user {
            return Err(OverLimit::User);
        }
        if usage.allocations.fetch_add(1, Ordering::Relaxed) == 0 {
            let full_at = usage.bandwidth.full_at.load(Ordering::Relaxed);
            users.leaving.remove(&(full_at, Arc::clone(&user)));
            users.known.insert(Arc::clone(&user), Arc::clone(&usage));
        }
        self.total.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(Charge {
            accounts: Arc::clone(self),
            user,
            usage,
        })
    }

    /// How many users have something.
    pub(super) fn users_len(&self) -> usize {
        let users = self.users();
        users.known.len() - users.leaving.len()
    }

    pub(super) fn allocations(&self) -> usize {
        self.total.allocations.load(Ordering::Relaxed)
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // What the lock protects is consistent wherever one of its holders can panic, which is nowhere.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// Forgets those that have nothing any more, not even a bucket that is not full.
    fn forget(&mut self, now: Time) {
        let now = now.as_nanos();
        while let Some((full_at, user)) = self.leaving.pop_first() {
            if full_at > now {
                self.leaving.insert((full_at, user));
                return;
            }
            self.known.remove(&user);
        }
    }

    /// A user's last allocation has ended.
    fn leave(&mut self, user: &Arc<str>, usage: &Usage) {
        // RFC 8656 section 5 limits what a user uses at one time: a user with nothing is forgotten.
        match usage.bandwidth.full_at.load(Ordering::Relaxed) {
            0 => {
                self.known.remove(user);
            }
            full_at => {
                self.leaving.insert((full_at, Arc::clone(user)));
            }
        }
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
        let cost = match limits.per_user {
            Some(rate) => self.usage.bandwidth.take(now, bytes, rate)?,
            None => 0,
        };
        if let Some(rate) = limits.total
            && let Err(wait) = self.accounts.total.bandwidth.take(now, bytes, rate)
        {
            self.usage.bandwidth.give_back(cost);
            return Err(wait);
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
            users.leave(&self.user, &self.usage);
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
    /// What it cost, in time to fill it again; or how long until there is enough.
    fn take(&self, now: Time, bytes: usize, bytes_per_second: u64) -> Result<u64, Duration> {
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
            Ok(_) => Ok(cost),
            Err(_) => Err(Duration::from_nanos(wait)),
        }
    }

    /// Gives back what [`take`](Self::take) has just taken.
    fn give_back(&self, cost: u64) {
        // It stands in there since it was added, whoever else has taken something meanwhile.
        self.full_at.fetch_sub(cost, Ordering::Relaxed);
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
        let first = accounts.charge(Time::ZERO, "ann", LIMITS).unwrap();
        let second = accounts.charge(Time::ZERO, "ann", LIMITS).unwrap();
        assert_eq!(
            accounts.charge(Time::ZERO, "ann", LIMITS).unwrap_err(),
            OverLimit::User
        );
        let third = accounts.charge(Time::ZERO, "bob", LIMITS).unwrap();
        assert_eq!(
            accounts.charge(Time::ZERO, "cid", LIMITS).unwrap_err(),
            OverLimit::Total
        );
        assert_eq!(accounts.users_len(), 2, "a refused user leaves nothing");
        drop(second);
        let again = accounts.charge(Time::ZERO, "ann", LIMITS).unwrap();
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
        assert_eq!(bucket.take(later, 100, 1_000), Ok(100_000_000));
        assert!(bucket.take(later, 1, 1_000).is_err());
        // A datagram of two seconds' worth waits for a full bucket.
        assert!(bucket.take(later, 2_000, 1_000).is_err());
        assert_eq!(
            bucket.take(later + Duration::from_secs(1), 2_000, 1_000),
            Ok(2_000_000_000)
        );
    }

    #[test]
    fn another_allocation_is_no_way_to_more_bandwidth() {
        let limits = Bandwidth {
            per_user: Some(1_000),
            total: None,
        };
        let accounts = Arc::new(Accounts::default());
        let now = Time::from_millis(5_000);
        let first = accounts.charge(now, "ann", LIMITS).unwrap();
        first.take(now, 1_000, limits).unwrap();
        drop(first);
        assert_eq!(accounts.users_len(), 0, "a user without allocations");
        let second = accounts.charge(now, "ann", LIMITS).unwrap();
        assert_eq!(accounts.users_len(), 1);
        assert!(second.take(now, 1, limits).is_err());
        let another = accounts.charge(now, "bob", LIMITS).unwrap();
        another.take(now, 1_000, limits).unwrap();
        drop((second, another));

        // Whoever leaves is remembered until there is nothing to remember.
        let almost = now + Duration::from_millis(999);
        drop(accounts.charge(almost, "cid", LIMITS).unwrap());
        assert_eq!(accounts.users().known.len(), 2);
        let full = now + Duration::from_secs(1);
        drop(accounts.charge(full, "cid", LIMITS).unwrap());
        assert_eq!(accounts.users().known.len(), 0);
        assert_eq!(accounts.users().leaving.len(), 0);
    }

    #[test]
    fn what_the_total_refuses_costs_the_user_nothing() {
        let limits = Bandwidth {
            per_user: Some(1_000),
            total: Some(1_500),
        };
        let accounts = Arc::new(Accounts::default());
        let now = Time::from_millis(5_000);
        let ann = accounts.charge(now, "ann", LIMITS).unwrap();
        let bob = accounts.charge(now, "bob", LIMITS).unwrap();
        ann.take(now, 1_000, limits).unwrap();
        bob.take(now, 500, limits).unwrap();
        for _ in 0..100 {
            assert!(bob.take(now, 500, limits).is_err());
        }
        let unlimited = Bandwidth {
            total: None,
            ..limits
        };
        bob.take(now, 500, unlimited).unwrap();
        assert!(bob.take(now, 1, unlimited).is_err());
    }
}
