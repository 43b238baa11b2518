//! The half that puts blocks in order.

use std::collections::{BTreeMap, VecDeque};

use super::{Acknowledgement, WINDOW};

#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// In order, and not yet read.
    ready: VecDeque<Box<[u8]>>,
    /// Came before an earlier one; an empty block is the end.
    early: BTreeMap<u64, Box<[u8]>>,
    next: u64,
    ended: bool,
    acknowledgement_pending: bool,
    /// The room told last was none, so the sender must be told when there is some.
    told_full: bool,
}

impl Receiver {
    pub(super) fn block(&mut self, sequence: u64, block: &[u8]) {
        self.take(sequence, block.into());
    }

    pub(super) fn end(&mut self, sequence: u64) {
        self.take(sequence, Box::default());
    }

    fn take(&mut self, sequence: u64, block: Box<[u8]>) {
        // A repeated block is acknowledged again: the first acknowledgement may have been lost.
        self.acknowledgement_pending = true;
        let fits = sequence
            .checked_sub(self.next)
            .is_some_and(|ahead| ahead < u64::from(self.room()));
        if self.ended || !fits {
            return;
        }
        self.early.entry(sequence).or_insert(block);
        while let Some(block) = self.early.remove(&self.next) {
            self.next += 1;
            if block.is_empty() {
                self.ended = true;
                self.early.clear();
                return;
            }
            self.ready.push_back(block);
        }
    }

    pub(super) fn read(&mut self) -> Option<Box<[u8]>> {
        let block = self.ready.pop_front()?;
        // Half the window at once: a word for each block would double the packets.
        if self.told_full && usize::from(self.room()) >= WINDOW / 2 {
            self.acknowledgement_pending = true;
        }
        Some(block)
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn is_read_to_end(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    pub(super) fn poll_acknowledgement(&mut self) -> Option<Acknowledgement> {
        if !std::mem::take(&mut self.acknowledgement_pending) {
            return None;
        }
        let mut came = [0; WINDOW / 8];
        for &sequence in self.early.keys() {
            // What is early is past `next`, and less than a window past it.
            let bit = (sequence - self.next - 1) as usize;
            came[bit / 8] |= 1 << (bit % 8);
        }
        let room = self.room();
        self.told_full = room == 0;
        Some(Acknowledgement {
            next: self.next,
            room,
            came,
        })
    }

    fn room(&self) -> u16 {
        // The window is far below 65,536.
        (WINDOW - self.ready.len().min(WINDOW)) as u16
    }
}
