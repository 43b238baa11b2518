//! How many errors a source without credentials gets: enough for everybody behind one address, too few to be
//! worth forging that address.

use core::hash::Hasher;
use core::net::IpAddr;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use crate::time::Time;

/// Places in each of the two rows: the memory is fixed, whoever sends what.
const PLACES: usize = 32_768;
/// As many at once before the interval counts.
const BURST: u64 = 1_000;

/// Counts by source in two rows of buckets, each with a key of its own. A source is refused when both of its
/// buckets are empty: to suffer from others, it must share a place with a flood in each row.
#[derive(Debug)]
pub(super) struct Limiter {
    keys: [(u64, u64); 2],
    /// When each bucket will be full, in nanoseconds.
    rows: [Box<[u64]>; 2],
}

impl Limiter {
    pub(super) fn new(keys: [(u64, u64); 2]) -> Self {
        Self {
            keys,
            rows: [vec![0; PLACES].into(), vec![0; PLACES].into()],
        }
    }

    /// Whether the source may have another answer; it is counted if so. One comes back in each `interval`.
    pub(super) fn allow(&mut self, source: IpAddr, now: Time, interval: Duration) -> bool {
        let now = now.as_nanos();
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let slack = interval.saturating_mul(BURST - 1);
        let places = self.keys.map(|keys| place(source, keys));
        let mut allowed = false;
        for (row, place) in self.rows.iter().zip(places) {
            allowed |= row[place].saturating_sub(now) <= slack;
        }
        if allowed {
            for (row, place) in self.rows.iter_mut().zip(places) {
                row[place] = row[place].max(now).saturating_add(interval);
            }
        }
        allowed
    }
}

/// An IPv4 address counts as itself. Of an IPv6 address the first 64 bits count: whoever has one address of such a
/// network has them all.
fn place(source: IpAddr, (k0, k1): (u64, u64)) -> usize {
    let mut hasher = SipHasher13::new_with_keys(k0, k1);
    match source.to_canonical() {
        IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
        IpAddr::V6(address) => hasher.write_u64((address.to_bits() >> 64) as u64),
    }
    (hasher.finish() % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(50);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_flood_from_one_source_is_cut_and_others_are_served() {
        let mut limiter = Limiter::new([(1, 2), (3, 4)]);
        let now = Time::from_millis(1_000);
        let flooder = address("192.0.2.1");
        let answered = (0..10_000)
            .filter(|_| limiter.allow(flooder, now, INTERVAL))
            .count();
        assert_eq!(answered as u64, BURST);
        assert!(limiter.allow(address("192.0.2.2"), now, INTERVAL));
        assert!(!limiter.allow(address("::ffff:192.0.2.1"), now, INTERVAL));
        assert!(limiter.allow(flooder, now + INTERVAL, INTERVAL));
        assert!(!limiter.allow(flooder, now + INTERVAL, INTERVAL));
    }

    #[test]
    fn a_v6_network_is_one_source() {
        let mut limiter = Limiter::new([(1, 2), (3, 4)]);
        let answered = (0..10_000_u16)
            .filter(|host| {
                let source = IpAddr::from([0x2001, 0xDB8, 0, 1, 0, 0, 0, *host]);
                limiter.allow(source, Time::ZERO, INTERVAL)
            })
            .count();
        assert_eq!(answered as u64, BURST);
    }
}
