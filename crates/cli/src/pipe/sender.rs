//! The half that repeats what was not acknowledged, and takes care not to flood the path.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Acknowledgement, WINDOW};

/// The window to begin with, in blocks (RFC 6928 says ten for TCP).
const FIRST_WINDOW: f64 = 10.0;
const LEAST_WINDOW: f64 = 2.0;
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    sent_at: Option<Duration>,
    transmissions: u32,
    came: bool,
    /// To be sent again as soon as possible.
    lost: bool,
}

#[derive(Debug)]
pub(super) struct Sender {
    /// From the oldest unacknowledged block to the newest; an empty block is the end.
    blocks: VecDeque<Block>,
    /// The sequence number of the first of `blocks`.
    first: u64,
    finished: bool,
    /// The first number that the receiver takes no more.
    limit: u64,
    window: f64,
    slow_start_until: f64,
    /// Losses before this number have already halved the window.
    recovery: u64,
    round_trip: Option<(Duration, Duration)>,
    backoff: u32,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            first: 0,
            finished: false,
            limit: WINDOW as u64,
            window: FIRST_WINDOW,
            slow_start_until: WINDOW as f64,
            recovery: 0,
            round_trip: None,
            backoff: 0,
        }
    }
}

impl Sender {
    pub(super) fn has_room(&self) -> bool {
        !self.finished && self.blocks.len() < WINDOW
    }

    pub(super) fn push(&mut self, bytes: Box<[u8]>) {
        self.blocks.push_back(Block {
            bytes,
            sent_at: None,
            transmissions: 0,
            came: false,
            lost: false,
        });
    }

    pub(super) fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.push(Box::default());
        }
    }

    /// Whether the end was sent and acknowledged, and all before it.
    pub(super) fn is_complete(&self) -> bool {
        self.finished && self.blocks.is_empty()
    }

    /// The block to send now, if any may be.
    pub(super) fn poll(&mut self, now: Duration) -> Option<(u64, &[u8])> {
        self.expire(now);
        let index = self.next_index()?;
        let block = &mut self.blocks[index];
        block.sent_at = Some(now);
        block.transmissions += 1;
        block.lost = false;
        Some((self.first + index as u64, &block.bytes))
    }

    fn next_index(&self) -> Option<usize> {
        let in_flight = self
            .blocks
            .iter()
            .filter(|block| block.is_in_flight())
            .count();
        if in_flight as f64 >= self.window {
            return None;
        }
        let index = self
            .blocks
            .iter()
            .position(|block| !block.came && !block.is_in_flight())?;
        // With nothing under way, one block asks whether the receiver has room again.
        let fits = self.first + (index as u64) < self.limit || in_flight == 0;
        fits.then_some(index)
    }

    fn expire(&mut self, now: Duration) {
        let timeout = self.timeout();
        let due = |block: &Block| {
            block.is_in_flight() && block.sent_at.is_some_and(|sent| now >= sent + timeout)
        };
        // Only the oldest one counts: its time is up first, and what follows may just be unacknowledged yet.
        let Some(oldest) = self
            .blocks
            .iter()
            .filter(|block| block.is_in_flight())
            .min_by_key(|block| block.sent_at)
        else {
            return;
        };
        if !due(oldest) {
            return;
        }
        self.slow_start_until = (self.window / 2.0).max(LEAST_WINDOW);
        self.window = LEAST_WINDOW;
        self.recovery = self.first + self.blocks.len() as u64;
        self.backoff = (self.backoff + 1).min(6);
        for block in self.blocks.iter_mut().filter(|block| due(block)) {
            block.lost = true;
        }
    }

    pub(super) fn acknowledged(&mut self, now: Duration, acknowledgement: &Acknowledgement) {
        let sent_before = self.first
            + self
                .blocks
                .iter()
                .take_while(|block| block.transmissions > 0)
                .count() as u64;
        if acknowledgement.next > sent_before {
            return; // It acknowledges what was never sent: not ours.
        }
        self.limit = self.limit.max(
            acknowledgement
                .next
                .saturating_add(acknowledgement.room.into()),
        );
        let mut latest = None;
        for index in 0..self.blocks.len() {
            let sequence = self.first + index as u64;
            let block = &mut self.blocks[index];
            if block.came || block.transmissions == 0 || !acknowledgement.covers(sequence) {
                continue;
            }
            block.came = true;
            let once = block.transmissions == 1;
            // Karn's rule: only what was sent once tells how long a round trip takes, and when its copy left.
            if let Some(sent_at) = block.sent_at.filter(|_| once) {
                latest = latest.max(Some(sent_at));
                self.measured(now.saturating_sub(sent_at));
            }
            self.backoff = 0;
            self.window += if self.window < self.slow_start_until {
                1.0
            } else {
                1.0 / self.window
            };
            self.window = self.window.min(WINDOW as f64);
        }
        if let Some(latest) = latest {
            self.find_losses(now, latest);
        }
        while self.blocks.front().is_some_and(|block| block.came) {
            self.blocks.pop_front();
            self.first += 1;
        }
    }

    /// What left before a block that has come is lost once a round trip and a quarter have passed (the idea
    /// of RFC 8985): counting later blocks would take a reordered path for a lossy one.
    fn find_losses(&mut self, now: Duration, latest: Duration) {
        let Some((smoothed, _)) = self.round_trip else {
            return;
        };
        let patience = smoothed * 5 / 4;
        let end = self.first + self.blocks.len() as u64;
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let overdue = block
                .sent_at
                .is_some_and(|sent_at| sent_at <= latest && now >= sent_at + patience);
            if !block.is_in_flight() || !overdue {
                continue;
            }
            block.lost = true;
            if self.first + index as u64 >= self.recovery {
                self.window = (self.window / 2.0).max(LEAST_WINDOW);
                self.slow_start_until = self.window;
                self.recovery = end;
            }
        }
    }

    /// RFC 6298, with a shorter least timeout.
    fn measured(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => (
                smoothed * 7 / 8 + sample / 8,
                variation * 3 / 4 + smoothed.abs_diff(sample) / 4,
            ),
        });
    }

    /// How long an acknowledgement is waited for.
    pub(super) fn timeout(&self) -> Duration {
        let timeout = match self.round_trip {
            None => Duration::from_millis(500),
            Some((smoothed, variation)) => (smoothed + 4 * variation).max(LEAST_TIMEOUT),
        };
        (timeout * (1 << self.backoff)).min(MOST_TIMEOUT)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let oldest = self
            .blocks
            .iter()
            .filter(|block| block.is_in_flight())
            .filter_map(|block| block.sent_at)
            .min()?;
        Some(oldest + self.timeout())
    }
}

impl Block {
    const fn is_in_flight(&self) -> bool {
        self.sent_at.is_some() && !self.came && !self.lost
    }
}

impl Acknowledgement {
    fn covers(&self, sequence: u64) -> bool {
        let Some(ahead) = sequence.checked_sub(self.next) else {
            return true;
        };
        let Some(bit) = ahead.checked_sub(1).filter(|bit| *bit < WINDOW as u64) else {
            return false;
        };
        // Below the window, so it fits.
        let bit = bit as usize;
        self.came[bit / 8] & (1 << (bit % 8)) != 0
    }
}
