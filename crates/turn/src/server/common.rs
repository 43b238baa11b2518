//! What the cores of a server share.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use hmac::{Hmac, KeyInit};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sha2::Sha256;

use super::io::WorkerId;
use super::mobility::TicketKey;
use super::quota::Accounts;
use crate::time::Time;

/// What the cores of a server share: keys, so that each understands the nonces and tickets of all, and accounts.
///
/// Nothing in here is locked for a packet.
pub struct Common {
    /// Of nonces.
    pub(super) nonce_key: Hmac<Sha256>,
    pub(super) ticket_key: TicketKey,
    pub(super) accounts: Arc<Accounts>,
    unix_at_zero: Duration,
    workers: u8,
}

impl Common {
    /// What the cores of one server share. Servers with the same secret understand each other's nonces, so that a
    /// client that comes from one to another is spared a round trip.
    ///
    /// The time since 1970 at [`Time::ZERO`] makes out when credentials expire; all cores count from the same zero.
    /// `workers` is how many cores there are, numbered from zero.
    #[must_use]
    pub fn new(secret: [u8; 32], unix_at_zero: Duration, workers: u8) -> Arc<Self> {
        let mut rng = ChaCha12Rng::from_seed(secret);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        // HMAC hashes a key longer than a block and pads a shorter one: RFC 2104 knows no wrong length.
        let nonce_key = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
        rng.fill_bytes(&mut key);
        Arc::new(Self {
            nonce_key,
            ticket_key: TicketKey::new(&key),
            accounts: Arc::default(),
            unix_at_zero,
            workers,
        })
    }

    /// How many allocations all cores have, with those that are being made and the ports that are reserved.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.accounts.allocations()
    }

    /// How many users have allocations.
    #[must_use]
    pub fn users(&self) -> usize {
        self.accounts.users_len()
    }

    /// Whether there is such a core.
    pub(super) const fn has(&self, worker: WorkerId) -> bool {
        worker.0 < self.workers
    }

    /// Seconds since 1970.
    pub(super) fn unix(&self, now: Time) -> u64 {
        self.unix_at_zero
            .saturating_add(now.since(Time::ZERO))
            .as_secs()
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}
