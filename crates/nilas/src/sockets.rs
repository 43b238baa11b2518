//! The sockets of an engine: the table that driver and senders share, and which of them have something.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use nilas_ice::SocketId;
use nilas_net::UdpSocket;

/// Sockets by their engine's number. Only the driver adds and removes; who sends keeps a weak
/// reference of its own, so that the table is asked only when the path has changed.
#[derive(Debug, Default)]
pub(crate) struct SocketTable {
    sockets: Mutex<BTreeMap<SocketId, Arc<UdpSocket>>>,
}

impl SocketTable {
    pub(crate) fn insert(&self, id: SocketId, socket: Arc<UdpSocket>) {
        lock(&self.sockets).insert(id, socket);
    }

    /// Removes the socket, which closes it: nobody else holds it for longer than a send takes.
    pub(crate) fn remove(&self, id: SocketId) {
        lock(&self.sockets).remove(&id);
    }

    pub(crate) fn find(&self, id: SocketId) -> Weak<UdpSocket> {
        lock(&self.sockets)
            .get(&id)
            .map(Arc::downgrade)
            .unwrap_or_default()
    }

    pub(crate) fn clear(&self) {
        lock(&self.sockets).clear();
    }
}

/// Which sockets may have something to receive.
///
/// Each socket has a waker of its own that puts it into this list, so that a driver with thousands of
/// sockets looks only at those that have woken it.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    queue: Mutex<VecDeque<SocketId>>,
    driver: AtomicWaker,
}

impl ReadyList {
    /// Takes the socket that has waited longest, or waits for one.
    pub(crate) async fn next(&self) -> SocketId {
        poll_fn(|cx| {
            if let Some(id) = self.try_next() {
                return Poll::Ready(id);
            }
            self.driver.register(cx.waker());
            // One may have come between the look and the registration.
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Takes the socket that has waited longest.
    pub(crate) fn try_next(&self) -> Option<SocketId> {
        lock(&self.queue).pop_front()
    }

    fn push(&self, id: SocketId) {
        lock(&self.queue).push_back(id);
        self.driver.wake();
    }
}

/// A socket as the driver reads from it.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) socket: Arc<UdpSocket>,
    slot: Arc<Slot>,
    waker: Waker,
    errors: u32,
}

/// A socket that fails this often in a row without one success is not read any more.
const MAX_ERRORS: u32 = 64;

#[derive(Debug)]
struct Slot {
    id: SocketId,
    list: Arc<ReadyList>,
    queued: AtomicBool,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.enqueue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
    }
}

impl Slot {
    fn enqueue(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.list.push(self.id);
        }
    }
}

impl Reader {
    /// A reader that stands in the list, so that the first look at the socket registers for more.
    pub(crate) fn new(id: SocketId, socket: Arc<UdpSocket>, list: &Arc<ReadyList>) -> Self {
        let slot = Arc::new(Slot {
            id,
            list: Arc::clone(list),
            queued: AtomicBool::new(false),
        });
        slot.enqueue();
        let waker = Waker::from(Arc::clone(&slot));
        Self {
            socket,
            slot,
            waker,
            errors: 0,
        }
    }

    /// To be called when the socket was taken from the list, before it is read.
    pub(crate) fn begin(&self) {
        self.slot.queued.store(false, Ordering::Release);
    }

    /// Something came. If that was not all, the socket gets another turn after the others.
    pub(crate) fn received(&mut self, all: bool) {
        self.errors = 0;
        if all {
            self.wait()
        } else {
            self.slot.enqueue()
        }
    }

    /// There is nothing more: it comes back into the list when there is.
    pub(crate) fn wait(&self) {
        match self
            .socket
            .poll_readable(&mut Context::from_waker(&self.waker))
        {
            Poll::Ready(Ok(())) => self.slot.enqueue(),
            // The runtime shuts down: nothing will ever come.
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
    }

    /// Reading failed. The system reports each fault once, so that another try is worth it.
    pub(crate) fn failed(&mut self) {
        self.errors += 1;
        if self.errors < MAX_ERRORS {
            self.slot.enqueue();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds the lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
