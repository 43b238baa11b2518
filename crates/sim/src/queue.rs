//! The virtual clock, and what is to happen when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use nilas_ice::Time;

/// Happenings in the order of their time; those of one time in the order in which they were planned.
#[derive(Debug)]
pub(crate) struct Queue<H> {
    now: Time,
    planned: BinaryHeap<Planned<H>>,
    next_number: u64,
}

impl<H> Queue<H> {
    pub(crate) const fn new() -> Self {
        Self {
            now: Time::ZERO,
            planned: BinaryHeap::new(),
            next_number: 0,
        }
    }

    /// Plans a happening; one of the past happens now.
    pub(crate) fn plan(&mut self, at: Time, happening: H) {
        self.planned.push(Planned {
            at: at.max(self.now),
            number: self.next_number,
            happening,
        });
        self.next_number += 1;
    }

    /// Takes the next happening that is not after `end`, and sets the clock to its time.
    pub(crate) fn next(&mut self, end: Time) -> Option<H> {
        if self.planned.peek()?.at > end {
            return None;
        }
        let planned = self.planned.pop()?;
        self.now = planned.at;
        Some(planned.happening)
    }

    /// Sets the clock forward; it never goes back.
    pub(crate) fn advance(&mut self, to: Time) {
        self.now = self.now.max(to);
    }

    pub(crate) const fn now(&self) -> Time {
        self.now
    }
}

#[derive(Debug)]
struct Planned<H> {
    at: Time,
    number: u64,
    happening: H,
}

impl<H> Ord for Planned<H> {
    /// The earliest is the greatest, because a `BinaryHeap` gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<H> PartialOrd for Planned<H> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> PartialEq for Planned<H> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<H> Eq for Planned<H> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_first_and_planning_second() {
        let mut queue = Queue::new();
        for (at, what) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            queue.plan(Time::from_millis(at), what);
        }
        assert_eq!(queue.next(Time::from_millis(9)), None);
        assert_eq!(queue.now(), Time::ZERO);
        let order: String = std::iter::from_fn(|| queue.next(Time::from_millis(20))).collect();
        assert_eq!(order, "abcd");
        assert_eq!(queue.now(), Time::from_millis(20));
    }

    #[test]
    fn the_past_happens_now() {
        let mut queue = Queue::new();
        queue.advance(Time::from_millis(5));
        queue.plan(Time::ZERO, ());
        assert_eq!(queue.next(Time::from_millis(5)), Some(()));
        assert_eq!(queue.now(), Time::from_millis(5));
    }
}
