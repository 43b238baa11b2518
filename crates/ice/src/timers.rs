//! When agents are to be looked at.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use nilas_turn::Time;

/// Times and the slots of agents, the earliest first and of one time the lowest slot.
///
/// With many agents most timers are short waits for an answer that comes: those stand in a queue, where they
/// cost the same whatever their number, and are taken out again without a look at their agents.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Short waits, as far as each ends after the one before. In order.
    queue: VecDeque<Entry>,
    /// All others.
    heap: BinaryHeap<Reverse<(Time, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    slot: u32,
    cancelled: bool,
}

/// A wait of this length or less is short.
const SHORT: Duration = Duration::from_secs(1);

impl Timers {
    pub(crate) fn push(&mut self, now: Time, at: Time, slot: u32) {
        let last = self.queue.back().map(Entry::key);
        if at <= now + SHORT && last.is_none_or(|last| last <= (at, slot)) {
            let cancelled = false;
            self.queue.push_back(Entry {
                at,
                slot,
                cancelled,
            });
        } else {
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// Takes a timer out, if that is cheap; otherwise it is still to come.
    pub(crate) fn cancel(&mut self, at: Time, slot: u32) -> bool {
        let found = self.queue.binary_search_by_key(&(at, slot), Entry::key);
        let Some(entry) = found.ok().and_then(|index| self.queue.get_mut(index)) else {
            return false;
        };
        // One of several that are the same is as good as another, but each is taken out once.
        !core::mem::replace(&mut entry.cancelled, true)
    }

    /// The earliest one.
    pub(crate) fn peek(&mut self) -> Option<(Time, u32)> {
        while self.queue.front().is_some_and(|entry| entry.cancelled) {
            self.queue.pop_front();
        }
        let queued = self.queue.front().map(Entry::key);
        let heaped = self.heap.peek().map(|entry| entry.0);
        queued.into_iter().chain(heaped).min()
    }

    /// Takes the earliest one out.
    pub(crate) fn pop(&mut self) -> Option<(Time, u32)> {
        let earliest = self.peek()?;
        if self.queue.front().map(Entry::key) == Some(earliest) {
            self.queue.pop_front();
        } else {
            self.heap.pop();
        }
        // A crowd that came at once leaves its room behind.
        if self.heap.capacity() > 1024 && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
        if self.queue.capacity() > 1024 && self.queue.len() < self.queue.capacity() / 4 {
            self.queue.shrink_to(self.queue.len() * 2);
        }
        Some(earliest)
    }
}

impl Entry {
    const fn key(&self) -> (Time, u32) {
        (self.at, self.slot)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_what_was_cancelled_does_not() {
        const SEED: u8 = 7;
        let mut rng = ChaCha12Rng::from_seed([SEED; 32]);
        let (mut timers, mut expected) = (Timers::default(), Vec::new());
        let (mut now, mut cancelled) = (Time::ZERO, 0);
        for round in 0..20_000_u32 {
            let wait = match rng.next_u32() % 3 {
                0 => 500,
                1 => 5_000,
                _ => u64::from(rng.next_u32() % 2_000),
            };
            let at = now + Duration::from_millis(wait);
            let slot = rng.next_u32() % 100;
            if !expected.contains(&(at, slot)) {
                timers.push(now, at, slot);
                expected.push((at, slot));
            }
            if round % 3 == 0 {
                let victim = rng.next_u32() as usize % expected.len();
                let (at, slot) = expected[victim];
                if timers.cancel(at, slot) {
                    expected.swap_remove(victim);
                    cancelled += 1;
                    assert!(!timers.cancel(at, slot), "round {round}, seed {SEED}");
                }
            }
            while expected.len() > 200 {
                let first = expected.iter().copied().min();
                assert_eq!(timers.peek(), first, "round {round}, seed {SEED}");
                assert_eq!(timers.pop(), first, "round {round}, seed {SEED}");
                expected.retain(|entry| Some(*entry) != first);
                now = first.map_or(now, |(at, _)| now.max(at));
            }
        }
        assert!(cancelled > 100, "only {cancelled} could be cancelled");
        expected.sort();
        let rest: Vec<_> = core::iter::from_fn(|| timers.pop()).collect();
        assert_eq!(rest, expected, "seed {SEED}");
    }
}
