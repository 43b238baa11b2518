//! Which sockets and streams may have something to receive, and whether there is anything else to do.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use nilas_ice::{SocketId, StreamId};

/// What the driver reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Socket(SocketId),
    /// The second socket at the same address, for one remote.
    Dedicated(SocketId),
    Stream(StreamId),
    /// Everything else: what applications ask for, results, the timer.
    Control,
}

/// The sources that may have something, the one that has waited longest first.
///
/// Each source has a waker of its own that puts it into this list, so that a driver with thousands of
/// sockets looks only at those that have woken it.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    queue: Mutex<VecDeque<Source>>,
    driver: AtomicWaker,
}

impl ReadyList {
    /// Takes the source that has waited longest, or waits for one.
    pub(crate) async fn next(&self) -> Source {
        poll_fn(|cx| {
            if let Some(source) = self.try_next() {
                return Poll::Ready(source);
            }
            self.driver.register(cx.waker());
            // One may have come between the look and the registration.
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Takes the source that has waited longest.
    pub(crate) fn try_next(&self) -> Option<Source> {
        self.lock().pop_front()
    }

    fn push(&self, source: Source) {
        self.lock().push_back(source);
        self.driver.wake();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Source>> {
        // No code that holds the lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source's place in the list, which it takes when its waker is woken, and never twice.
#[derive(Debug)]
pub(crate) struct Place {
    slot: Arc<Slot>,
    waker: Waker,
}

#[derive(Debug)]
struct Slot {
    source: Source,
    list: Arc<ReadyList>,
    queued: AtomicBool,
}

impl Place {
    pub(crate) fn new(source: Source, list: &Arc<ReadyList>) -> Self {
        let slot = Arc::new(Slot {
            source,
            list: Arc::clone(list),
            queued: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&slot));
        Self { slot, waker }
    }

    /// To be called when the source was taken from the list, before it is read.
    pub(crate) fn begin(&self) {
        self.slot.queued.store(false, Ordering::Release);
    }

    /// Puts the source into the list.
    pub(crate) fn enqueue(&self) {
        self.slot.enqueue();
    }

    /// To poll the source with, so that it comes back into the list when there is more.
    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl Slot {
    fn enqueue(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.list.push(self.source);
        }
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.enqueue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
    }
}
