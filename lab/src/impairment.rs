//! One direction of a wire as a queue: frames go in at an instant and come out at others, or never.
//! Time is a parameter (nanoseconds of any clock that only grows), so this is the same in a test and in use.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::wire::{Wire, WireStats};

/// What an Ethernet header adds to an IP packet.
const ETHERNET_HEADER_BYTES: usize = 14;

/// What may be under way at once: a second of a gigabit. More is lost, as in any real queue.
const MOST_BYTES_UNDER_WAY: usize = 128 << 20;

/// One direction of a wire.
pub(crate) struct Impairment {
    wire: Wire,
    chance: Chance,
    in_bad_state: bool,
    /// When the last frame has left the bottleneck.
    busy_until: u64,
    /// When the last frame in order leaves.
    last_due: u64,
    sequence: u64,
    bytes_under_way: usize,
    queue: BinaryHeap<Reverse<UnderWay>>,
    spare: Vec<Vec<u8>>,
    stats: WireStats,
}

/// Ordered by when it is due, then by when it came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: u64,
    sequence: u64,
    frame: Vec<u8>,
}

impl Impairment {
    /// A direction with these settings; `stream` tells apart the directions that share a seed.
    pub(crate) fn new(wire: Wire, stream: u64) -> Self {
        Self {
            chance: Chance::new(wire.seed, stream),
            wire,
            in_bad_state: false,
            busy_until: 0,
            last_due: 0,
            sequence: 0,
            bytes_under_way: 0,
            queue: BinaryHeap::new(),
            spare: Vec::new(),
            stats: WireStats::default(),
        }
    }

    /// Other settings from now on. What is under way stays due when it was; chance goes on where it is.
    pub(crate) fn set(&mut self, wire: Wire) {
        self.wire = wire;
    }

    /// A frame comes at `now`.
    pub(crate) fn push(&mut self, now: u64, frame: &[u8]) {
        self.stats.entered += 1;
        if self
            .wire
            .mtu
            .is_some_and(|mtu| frame.len() > usize::from(mtu) + ETHERNET_HEADER_BYTES)
        {
            self.stats.too_large += 1;
            return;
        }
        if self.is_lost() {
            self.stats.lost += 1;
            return;
        }
        let Some(sent) = self.serialise(now, frame.len()) else {
            self.stats.overflowed += 1;
            return;
        };
        let twice = self.chance.happens(self.wire.duplicate_percent);
        self.stats.duplicated += u64::from(twice);
        for _ in 0..=u8::from(twice) {
            let due = self.due(sent);
            self.enqueue(due, frame);
        }
    }

    /// When the next frame is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(next)| next.due)
    }

    /// Hands over a frame that is due by `now`.
    pub(crate) fn pop(&mut self, now: u64, deliver: impl FnOnce(&[u8])) -> bool {
        if self.next_due().is_none_or(|due| due > now) {
            return false;
        }
        let Some(Reverse(UnderWay { frame, .. })) = self.queue.pop() else {
            return false;
        };
        deliver(&frame);
        self.stats.left += 1;
        self.bytes_under_way -= frame.len();
        self.spare.push(frame);
        true
    }

    pub(crate) fn stats(&self) -> WireStats {
        self.stats
    }

    fn is_lost(&mut self) -> bool {
        if let Some(burst) = self.wire.burst {
            let change = if self.in_bad_state {
                burst.leave_percent
            } else {
                burst.enter_percent
            };
            self.in_bad_state ^= self.chance.happens(change);
            if self.in_bad_state && self.chance.happens(burst.loss_percent) {
                return true;
            }
        }
        self.chance.happens(self.wire.loss_percent)
    }

    /// When the bottleneck has let the frame through; `None` if its queue is full.
    fn serialise(&mut self, now: u64, bytes: usize) -> Option<u64> {
        if self.bytes_under_way + bytes > MOST_BYTES_UNDER_WAY {
            return None;
        }
        let Some(rate_kbit) = self.wire.rate_kbit else {
            return Some(now);
        };
        let nanoseconds = |bytes: u64| bytes * 8 * 1_000_000 / u64::from(rate_kbit.max(1));
        let begins = self.busy_until.max(now);
        if begins - now > nanoseconds(u64::from(self.wire.queue_bytes)) {
            return None;
        }
        self.busy_until = begins + nanoseconds(bytes as u64);
        Some(self.busy_until)
    }

    fn due(&mut self, sent: u64) -> u64 {
        if self.chance.happens(self.wire.reorder_percent) {
            return sent;
        }
        let delay = nanoseconds(self.wire.delay);
        let jitter = nanoseconds(self.wire.jitter);
        let early = delay.saturating_sub(jitter);
        let spread = delay.saturating_add(jitter) - early;
        let mut due = sent + early + self.chance.below(spread);
        if self.wire.keep_order {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        due
    }

    fn enqueue(&mut self, due: u64, frame: &[u8]) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.bytes_under_way += frame.len();
        self.sequence += 1;
        self.queue.push(Reverse(UnderWay {
            due,
            sequence: self.sequence,
            frame: copy,
        }));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// A small generator (splitmix64): a wire needs numbers that repeat for a seed, not secrets.
struct Chance(u64);

impl Chance {
    fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed ^ stream.rotate_left(32));
        // Near seeds begin far apart.
        chance.0 = chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws nothing for what cannot happen, so that one setting does not disturb another's luck.
    fn happens(&mut self, percent: f64) -> bool {
        percent > 0.0 && ((self.next() >> 11) as f64) * 100.0 < percent * (1_u64 << 53) as f64
    }

    /// A number from 0 up to and without `bound`; 0 for 0.
    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The high half of a 128-bit product is below `bound`, so it fits.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Burst;

    const MILLISECOND: u64 = 1_000_000;

    /// Sends `count` numbered frames, one each millisecond, and returns (number, instant) in the order of leaving.
    fn run(wire: &str, count: u64) -> (Vec<(u64, u64)>, WireStats) {
        let mut direction = Impairment::new(wire.parse().unwrap(), 0);
        let mut left = Vec::new();
        let mut frame = [0; 100];
        for number in 0..count {
            frame[..8].copy_from_slice(&number.to_le_bytes());
            direction.push(number * MILLISECOND, &frame);
        }
        while let Some(due) = direction.next_due() {
            direction.pop(due, |frame| {
                left.push((u64::from_le_bytes(frame[..8].try_into().unwrap()), due))
            });
        }
        (left, direction.stats())
    }

    #[test]
    fn delay_moves_every_frame_by_the_same_time() {
        let (left, stats) = run("delay=20", 50);
        assert_eq!(
            left,
            (0..50)
                .map(|number| (number, (number + 20) * MILLISECOND))
                .collect::<Vec<_>>()
        );
        assert_eq!((stats.entered, stats.left), (50, 50));
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_in_order_unless_told() {
        let (left, _) = run("delay=20,jitter=5", 2_000);
        assert!(left.is_sorted());
        assert!(left.iter().all(|(number, due)| {
            let took = due - number * MILLISECOND;
            (15 * MILLISECOND..25 * MILLISECOND).contains(&took)
        }));
        let (left, _) = run("delay=20,jitter=5,order=0", 2_000);
        assert!(!left.is_sorted_by_key(|(number, _)| *number));
    }

    #[test]
    fn loss_and_duplication_come_as_often_as_asked_and_repeat_for_a_seed() {
        let (left, stats) = run("loss=3,dup=5,seed=7", 20_000);
        assert!((450..750).contains(&stats.lost), "{stats:?}");
        assert!((800..1_150).contains(&stats.duplicated), "{stats:?}");
        assert_eq!(left.len() as u64, 20_000 - stats.lost + stats.duplicated);
        assert_eq!(run("loss=3,dup=5,seed=7", 20_000).0, left);
        assert_ne!(run("loss=3,dup=5,seed=8", 20_000).0, left);
    }

    #[test]
    fn bursts_lose_frames_in_runs() {
        let wire = Wire {
            burst: Some(Burst {
                enter_percent: 1.0,
                leave_percent: 10.0,
                loss_percent: 100.0,
            }),
            ..Wire::default()
        };
        let mut direction = Impairment::new(wire, 0);
        let mut runs = 0_u32;
        let mut before = 0;
        let mut in_run = false;
        for number in 0..20_000 {
            direction.push(number, &[0; 60]);
            let lost = direction.stats().lost > before;
            before = direction.stats().lost;
            runs += u32::from(lost && !in_run);
            in_run = lost;
        }
        let mean = before as f64 / f64::from(runs);
        assert!((7.0..13.0).contains(&mean), "mean length of a run: {mean}");
    }

    #[test]
    fn a_rate_spaces_frames_and_its_queue_overflows() {
        // 100 bytes at 400 kbit/s take 2 ms, and one comes each millisecond; 10 of them may wait.
        let (left, stats) = run("rate=400,queue=1000", 100);
        assert!(
            left.windows(2)
                .all(|pair| pair[1].1 - pair[0].1 == 2 * MILLISECOND)
        );
        assert!(stats.overflowed > 30, "{stats:?}");
        assert_eq!(stats.left + stats.overflowed, 100);
    }

    #[test]
    fn frames_beyond_the_mtu_vanish() {
        let mut direction = Impairment::new("mtu=1280".parse().unwrap(), 0);
        direction.push(0, &[0; 1280 + 14]);
        direction.push(0, &[0; 1281 + 14]);
        assert!(direction.pop(0, |_| {}));
        assert!(!direction.pop(0, |_| {}));
        assert_eq!(direction.stats().too_large, 1);
    }

    #[test]
    fn what_overtakes_skips_the_delay() {
        let (left, _) = run("delay=50,reorder=10", 1_000);
        let early = left
            .iter()
            .filter(|(number, due)| *due == number * MILLISECOND)
            .count();
        assert!((60..150).contains(&early), "{early}");
    }
}
