//! Received datagrams on their way from the driver to the application.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use nilas_net::Ecn;

use crate::error::Error;

/// Datagrams, one after another in one buffer that is used again.
///
/// [`Connection::recv_batch`](crate::Connection::recv_batch) fills it by exchanging buffers with the
/// connection, without copying.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each datagram ends, and its mark; it begins where the one before ends.
    ends: VecDeque<End>,
    /// Where the first datagram begins.
    start: usize,
}

/// Where a datagram ends and how it was marked, in one word.
#[derive(Clone, Copy, Debug)]
struct End(usize);

/// A received datagram's length, and how it was marked on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Marked {
    /// Its length in bytes.
    pub length: usize,
    /// Its ECN field as it arrived here; `None` if that is not known: [`Config::ecn`](crate::Config::ecn) did not ask for
    /// it, or the datagram came over TCP or TLS.
    pub ecn: Option<Ecn>,
}

impl End {
    const BITS: u32 = 3;
    const MARKS: [Option<Ecn>; 5] = [
        None,
        Some(Ecn::NotEct),
        Some(Ecn::Ect1),
        Some(Ecn::Ect0),
        Some(Ecn::Ce),
    ];

    fn new(at: usize, ecn: Option<Ecn>) -> Self {
        Self(at << Self::BITS | ecn.map_or(0, |ecn| ecn as usize + 1))
    }

    const fn at(self) -> usize {
        self.0 >> Self::BITS
    }

    const fn ecn(self) -> Option<Ecn> {
        Self::MARKS[self.0 & ((1 << Self::BITS) - 1)]
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of datagrams.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all datagrams together.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The datagrams, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.iter_marked().map(|(datagram, _)| datagram)
    }

    /// The same, and how each was marked: see [`Marked::ecn`].
    pub fn iter_marked(&self) -> impl Iterator<Item = (&[u8], Option<Ecn>)> {
        let ends = self.ends.iter().map(|end| end.at());
        let starts = std::iter::once(self.start).chain(ends);
        starts
            .zip(&self.ends)
            .map(|(start, end)| (&self.bytes[start..end.at()], end.ecn()))
    }

    /// Forgets all datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.start = 0;
    }

    fn push(&mut self, datagram: &[u8], ecn: Option<Ecn>) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push_back(End::new(self.bytes.len(), ecn));
    }

    /// Copies the first datagram out and forgets it: `None` if there is none.
    pub(crate) fn pop_into(&mut self, buffer: &mut [u8]) -> Option<Result<Marked, Error>> {
        let end = *self.ends.front()?;
        let datagram = &self.bytes[self.start..end.at()];
        let Some(room) = buffer.get_mut(..datagram.len()) else {
            return Some(Err(Error::BufferTooSmall {
                needed: datagram.len(),
            }));
        };
        room.copy_from_slice(datagram);
        let length = datagram.len();
        self.start = end.at();
        self.ends.pop_front();
        if self.ends.is_empty() {
            self.clear();
        }
        let ecn = end.ecn();
        Some(Ok(Marked { length, ecn }))
    }
}

/// What a session has received and its application has not yet taken.
///
/// The driver appends many datagrams under one lock and wakes once; the application takes all there
/// are by exchanging buffers.
#[derive(Debug)]
pub(crate) struct Inbox {
    shared: Mutex<Shared>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Batch,
    waker: Option<Waker>,
    dropped: u64,
    /// Nothing more is to be expected at present: the session has failed or is closed.
    ended: bool,
}

/// Each datagram costs a little even if it is empty.
const DATAGRAM_OVERHEAD_BYTES: usize = size_of::<usize>();

impl Inbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            shared: Mutex::default(),
            max_bytes,
        }
    }

    /// Appends those datagrams that find room. The ranges are of `bytes`.
    pub(crate) fn push(&self, bytes: &[u8], datagrams: &[(Range<usize>, Option<Ecn>)]) {
        let mut shared = self.lock();
        for (range, ecn) in datagrams {
            let overhead = (shared.waiting.len() + 1) * DATAGRAM_OVERHEAD_BYTES;
            if shared.waiting.total_bytes() + range.len() + overhead > self.max_bytes {
                shared.dropped += 1;
            } else {
                shared.waiting.push(&bytes[range.clone()], *ecn);
            }
        }
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Says that nothing more will come, or that it may again.
    pub(crate) fn set_ended(&self, ended: bool) {
        let mut shared = self.lock();
        shared.ended = ended;
        let waker = if ended { shared.waker.take() } else { None };
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Exchanges `batch`, whose datagrams are forgotten, for what waits. Ready with `false` when
    /// nothing waits and nothing will come.
    pub(crate) fn poll_take(&self, cx: &Context<'_>, batch: &mut Batch) -> Poll<bool> {
        let mut shared = self.lock();
        if !shared.waiting.is_empty() {
            batch.clear();
            std::mem::swap(&mut shared.waiting, batch);
            return Poll::Ready(true);
        }
        if shared.ended {
            return Poll::Ready(false);
        }
        match &mut shared.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// How many datagrams found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // No code that holds the lock can panic half-way through a change.
        self.shared
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(inbox: &Inbox, batch: &mut Batch) -> Poll<bool> {
        inbox.poll_take(&Context::from_waker(Waker::noop()), batch)
    }

    #[test]
    fn datagrams_keep_their_order_and_their_bounds() {
        let inbox = Inbox::new(1000);
        let ce = Some(Ecn::Ce);
        inbox.push(b"..onetwo", &[(2..5, ce), (5..8, None), (8..8, None)]);
        inbox.push(b"three", &[(0..5, Some(Ecn::Ect1))]);
        let mut batch = Batch::new();
        assert_eq!(take(&inbox, &mut batch), Poll::Ready(true));
        assert_eq!(
            batch.iter().collect::<Vec<_>>(),
            [&b"one"[..], b"two", b"", b"three"]
        );
        assert_eq!((batch.len(), batch.total_bytes()), (4, 11));

        let marks: Vec<_> = batch.iter_marked().map(|(_, ecn)| ecn).collect();
        assert_eq!(marks, [ce, None, None, Some(Ecn::Ect1)]);

        let mut buffer = [0; 4];
        let first = batch.pop_into(&mut buffer).unwrap().unwrap();
        assert_eq!((first.length, first.ecn), (3, ce));
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(batch.iter().next(), Some(&b"two"[..]));
        assert_eq!(batch.pop_into(&mut buffer).unwrap().unwrap().length, 3);
        assert_eq!(batch.pop_into(&mut buffer).unwrap().unwrap().length, 0);
        for _ in 0..2 {
            let too_small = batch.pop_into(&mut buffer).unwrap();
            assert!(matches!(
                too_small,
                Err(Error::BufferTooSmall { needed: 5 })
            ));
        }
        assert_eq!(batch.pop_into(&mut [0; 5]).unwrap().unwrap().length, 5);
        assert!(batch.pop_into(&mut buffer).is_none());
        assert_eq!(take(&inbox, &mut batch), Poll::Pending);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let inbox = Inbox::new(2 * (10 + DATAGRAM_OVERHEAD_BYTES));
        let datagrams = vec![(0..10, None); 3];
        inbox.push(&[7; 10], &datagrams);
        assert_eq!(inbox.dropped(), 1);
        let mut batch = Batch::new();
        assert_eq!(take(&inbox, &mut batch), Poll::Ready(true));
        assert_eq!(batch.len(), 2);
        inbox.push(&[7; 10], &datagrams[..2]);
        assert_eq!(inbox.dropped(), 1);
    }

    #[test]
    fn the_end_comes_after_what_waits_and_may_be_taken_back() {
        let inbox = Inbox::new(1000);
        inbox.push(b"x", &[(0..1, None)]);
        inbox.set_ended(true);
        let mut batch = Batch::new();
        assert_eq!(take(&inbox, &mut batch), Poll::Ready(true));
        assert_eq!(take(&inbox, &mut batch), Poll::Ready(false));
        inbox.set_ended(false);
        assert_eq!(take(&inbox, &mut batch), Poll::Pending);
    }
}
