//! The sockets of an engine: the table that driver and senders share, and how the driver reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use nilas_ice::{SocketId, StreamId};
use nilas_net::UdpSocket;
use nilas_net::stream::StreamWriter;

use crate::ready::{Place, ReadyList, Source};

/// Sockets and streams by their engine's numbers. Only the driver adds and removes; who sends keeps a weak
/// reference of its own, so that the table is asked only when the path has changed.
#[derive(Debug)]
pub(crate) struct SocketTable {
    /// Whether a socket carries several sessions. Then none gets another one for itself.
    pub(crate) is_shared: bool,
    sockets: Mutex<BTreeMap<SocketId, Arc<UdpSocket>>>,
    /// Second sockets at the same addresses, each for one remote.
    dedicated: Mutex<BTreeMap<SocketId, Arc<UdpSocket>>>,
    streams: Mutex<BTreeMap<StreamId, Arc<StreamWriter>>>,
}

impl SocketTable {
    pub(crate) fn new(is_shared: bool) -> Self {
        Self {
            is_shared,
            sockets: Mutex::default(),
            dedicated: Mutex::default(),
            streams: Mutex::default(),
        }
    }

    pub(crate) fn insert(&self, id: SocketId, socket: Arc<UdpSocket>) {
        lock(&self.sockets).insert(id, socket);
    }

    pub(crate) fn insert_stream(&self, id: StreamId, stream: Arc<StreamWriter>) {
        lock(&self.streams).insert(id, stream);
    }

    /// Removes the socket, which closes it: nobody else holds it for longer than a send takes.
    pub(crate) fn remove(&self, id: SocketId) {
        lock(&self.sockets).remove(&id);
        self.remove_dedicated(id);
    }

    pub(crate) fn insert_dedicated(&self, id: SocketId, socket: Arc<UdpSocket>) {
        lock(&self.dedicated).insert(id, socket);
    }

    pub(crate) fn remove_dedicated(&self, id: SocketId) {
        lock(&self.dedicated).remove(&id);
    }

    /// The second socket at this one's address, if it is for this remote.
    pub(crate) fn find_dedicated(
        &self,
        id: SocketId,
        remote: SocketAddr,
    ) -> Option<Weak<UdpSocket>> {
        lock(&self.dedicated)
            .get(&id)
            .filter(|socket| socket.dedicated_to() == Some(remote))
            .map(Arc::downgrade)
    }

    /// Removes the stream, which closes it as soon as what was written has left.
    pub(crate) fn remove_stream(&self, id: StreamId) {
        let removed = lock(&self.streams).remove(&id);
        // A sender may be waiting for room, and must not keep it open.
        if let Some(stream) = removed {
            stream.close();
        }
    }

    pub(crate) fn find(&self, id: SocketId) -> Weak<UdpSocket> {
        lock(&self.sockets)
            .get(&id)
            .map(Arc::downgrade)
            .unwrap_or_default()
    }

    pub(crate) fn find_stream(&self, id: StreamId) -> Weak<StreamWriter> {
        lock(&self.streams)
            .get(&id)
            .map(Arc::downgrade)
            .unwrap_or_default()
    }

    pub(crate) fn clear(&self) {
        lock(&self.sockets).clear();
        lock(&self.dedicated).clear();
        lock(&self.streams).clear();
    }
}

/// A socket as the driver reads from it.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) socket: Arc<UdpSocket>,
    turn: Place,
    errors: u32,
}

/// A socket that fails this often in a row without one success is not read any more.
const MAX_ERRORS: u32 = 64;

impl Reader {
    /// A reader that stands in the list, so that the first look at the socket registers for more.
    pub(crate) fn new(source: Source, socket: Arc<UdpSocket>, list: &Arc<ReadyList>) -> Self {
        let turn = Place::new(source, list);
        turn.enqueue();
        Self {
            socket,
            turn,
            errors: 0,
        }
    }

    /// To be called when the socket was taken from the list, before it is read.
    pub(crate) fn begin(&self) {
        self.turn.begin();
    }

    /// Something came. If that was not all, the socket gets another turn after the others.
    pub(crate) fn received(&mut self, all: bool) {
        self.errors = 0;
        if all {
            self.wait()
        } else {
            self.turn.enqueue()
        }
    }

    /// There is nothing more: it comes back into the list when there is.
    pub(crate) fn wait(&self) {
        match self.socket.poll_readable(&mut self.turn.context()) {
            Poll::Ready(Ok(())) => self.turn.enqueue(),
            // The runtime shuts down: nothing will ever come.
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
    }

    /// Nothing failed here: what was sent before did not arrive, or so somebody says.
    pub(crate) fn reported(&self) {
        self.turn.enqueue();
    }

    /// Reading failed. The system reports each fault once, so that another try is worth it.
    pub(crate) fn failed(&mut self) {
        self.errors += 1;
        if self.errors < MAX_ERRORS {
            self.turn.enqueue();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds the lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
