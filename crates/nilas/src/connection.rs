//! A connection: datagrams to and from the peer, on whatever path works best.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nilas_ice::{NoPath, SelectedPair, State, Stats, Verdict};
use nilas_net::Ecn;
use tokio::task::coop::consume_budget;

use crate::error::Error;
use crate::events::Events;
use crate::inbox::{Batch, Marked};
use crate::sender::Sender;
use crate::session::{Request, Session};

/// Datagrams to and from the peer of an [`Agent`](crate::Agent).
///
/// Like UDP, it may lose, repeat and reorder them. They are **not encrypted**: that is the task of a
/// session layer on top. How long they may be, [`max_payload`](Self::max_payload) says.
///
/// The path may change, and the connection stays. There is one connection to an agent at a time, because
/// what is received can go to one place only; [`sender`](Self::sender) gives handles for sending elsewhere.
#[derive(Debug)]
pub struct Connection {
    session: Arc<Session>,
    sender: Sender,
    /// Taken from the inbox and not yet given to the application.
    batch: Batch,
}

impl Connection {
    pub(crate) fn new(session: Arc<Session>) -> Result<Self, Error> {
        session.claim()?;
        Ok(Self {
            sender: Sender::new(Arc::clone(&session)),
            session,
            batch: Batch::new(),
        })
    }

    /// Sends one datagram, and waits while the socket is full.
    ///
    /// # Errors
    /// [`Error::NoPath`] while there is no path, [`Error::Send`] when the operating system refuses, and
    /// [`Error::Closed`].
    pub async fn send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        self.sender.send(datagram).await
    }

    /// Sends one datagram if the socket can take it now.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when it cannot; otherwise as of [`send`](Self::send).
    pub fn try_send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        self.sender.try_send(datagram)
    }

    /// Sends many datagrams of one size in few system calls; see [`Sender::send_batch`].
    ///
    /// # Errors
    /// Those of [`Sender::send_batch`].
    pub async fn send_batch(&mut self, datagrams: &[u8], segment: usize) -> Result<(), Error> {
        self.sender.send_batch(datagrams, segment).await
    }

    /// Marks what is sent from now on; see [`Sender::set_ecn`].
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.sender.set_ecn(ecn);
    }

    /// Receives one datagram into the front of `buffer`, and returns its length.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], after which the datagram is still there; [`Error::Failed`] when nothing
    /// is left and the session has failed, and [`Error::Closed`].
    pub async fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.recv_marked(buffer).await.map(|marked| marked.length)
    }

    /// The same, and how the datagram was marked on its way, where [`Config::ecn`](crate::Config::ecn) asks for it.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// As of [`recv`](Self::recv).
    pub async fn recv_marked(&mut self, buffer: &mut [u8]) -> Result<Marked, Error> {
        consume_budget().await;
        loop {
            if let Some(taken) = self.batch.pop_into(buffer) {
                return taken;
            }
            self.refill().await?;
        }
    }

    /// Receives all datagrams that are there, at least one, in place of what `batch` held. This is the
    /// fastest way, without copies.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// As of [`recv`](Self::recv), but for [`Error::BufferTooSmall`].
    pub async fn recv_batch(&mut self, batch: &mut Batch) -> Result<(), Error> {
        consume_budget().await;
        if self.batch.is_empty() {
            self.refill().await?;
        }
        batch.clear();
        std::mem::swap(&mut self.batch, batch);
        Ok(())
    }

    /// A handle for sending, of which there may be many.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The most bytes of one datagram that pass the present path in one piece wherever packets of 1,280 bytes do, which
    /// is all of IPv6 and nearly all of IPv4: 1,232, less what relays at either end put around it.
    ///
    /// Longer ones may pass as well: with [`Config::mtu`](crate::Config::mtu) that is found out, and this grows once it is
    /// known, with the event [`MaxPayloadChange`](crate::Event::MaxPayloadChange). Another path may have another value: ask
    /// again when the [pair](Self::selected_pair) has changed.
    ///
    /// # Errors
    /// [`Error::NoPath`] while there is no path, and [`Error::Closed`].
    pub fn max_payload(&self) -> Result<usize, Error> {
        match self.session.path.load() {
            Ok(path) => Ok(path.max_payload()),
            Err(NoPath::Closed) => Err(Error::Closed),
            Err(reason) => Err(reason.into()),
        }
    }

    /// The pair that carries the data, if there is one.
    pub fn selected_pair(&self) -> Option<SelectedPair> {
        self.session.control.snapshot.borrow().selected.clone()
    }

    /// The state of the session.
    pub fn state(&self) -> State {
        self.session.control.snapshot.borrow().state
    }

    /// Why the state is what it is, where there is more to say.
    pub fn verdict(&self) -> Option<Verdict> {
        self.session.control.snapshot.borrow().verdict
    }

    /// The figures of W3C's webrtc-stats.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn stats(&self) -> Result<Vec<Stats>, Error> {
        self.session
            .control
            .ask(|agent, reply| Request::Stats { agent, reply })
            .await
    }

    /// How many received datagrams were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.session.inbox.dropped()
    }

    /// What happens to the agent; see [`Agent::events`](crate::Agent::events).
    pub fn events(&self) -> Events {
        Events::new(self.session.events())
    }

    /// Restarts ICE; see [`Agent::restart`](crate::Agent::restart). Signals have to be exchanged anew.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn restart(&self) -> Result<(), Error> {
        self.session
            .control
            .ask(|agent, reply| Request::Restart { agent, reply })
            .await
    }

    /// Closes the session and its sockets, and waits until that is done; see
    /// [`Agent::close`](crate::Agent::close).
    pub async fn close(self) {
        self.session.close().await;
    }

    async fn refill(&mut self) -> Result<(), Error> {
        if poll_fn(|cx| self.session.inbox.poll_take(cx, &mut self.batch)).await {
            return Ok(());
        }
        let snapshot = self.session.control.snapshot.borrow();
        Err(match snapshot.state {
            State::Failed => Error::Failed(snapshot.verdict),
            _ => Error::Closed,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.receiving.store(false, Ordering::Release);
    }
}
