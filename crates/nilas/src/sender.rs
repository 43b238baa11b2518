//! Sending: from the application's task straight to the socket.

use std::io;
use std::sync::Arc;

use nilas_ice::{NoPath, Path, SendError, State, Via};
use nilas_net::{Ecn, Ticks, TrafficClass, send_error};
use tokio::task::coop::consume_budget;

use crate::error::Error;
use crate::framer::{Framer, Held, Sent, Way, is_too_large};
use crate::session::{Request, Session};

/// Sends to the peer of an agent, from any task; clones send independently.
///
/// It exists before there is a path, and says so when it is used then. Sending does not pass the agent's
/// task and takes no lock, but where a relay is reached by a stream: then that of the stream's queue, for as
/// long as a copy takes. The path is read anew for every datagram, so that nothing is sent any more once
/// the peer's consent has expired (RFC 7675 section 5.1).
#[derive(Clone, Debug)]
pub struct Sender {
    session: Arc<Session>,
    /// The path that `way` is of.
    path: Option<Path>,
    way: Way,
    wish: Wish,
    framer: Framer,
    /// When something was sent, in short.
    ticks: Ticks,
}

/// For a path that carries much, its sender wishes for a socket of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    /// Datagrams sent one by one since it was last looked for.
    sent: u8,
    /// How often it was looked for.
    looked: u8,
}

impl Wish {
    /// It is looked for when so many have left one by one: a session that says little keeps one socket.
    const EVERY: u8 = 64;
    /// Where it does not come, it is wished for no more.
    const MOST: u8 = 8;
}

impl Sender {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let class = TrafficClass::new(session.dscp, Ecn::NotEct);
        Self {
            session,
            path: None,
            way: Way::default(),
            wish: Wish::default(),
            framer: Framer::new(class),
            ticks: Ticks::default(),
        }
    }

    /// Marks what this handle sends from now on with this ECN field, until it is told another;
    /// [`Ecn::NotEct`] at first. It may be another for each datagram. Whoever marks has to heed what the peer
    /// [receives](crate::Connection::recv_marked).
    ///
    /// Over TCP and TLS, to the peer or to a relay, the mark is lost; and a relay may clear it (RFC 8656 sections 14
    /// and 15).
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.framer.class = self.framer.class.with_ecn(ecn);
    }

    /// Sends one datagram, and waits while the socket is full.
    ///
    /// # Errors
    /// [`Error::NoPath`] while there is no path, [`Error::Send`] when the operating system refuses, and
    /// [`Error::Closed`].
    pub async fn send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        // A sender in a loop is never kept waiting by loopback: others must have their turn all the same.
        consume_budget().await;
        // Nearly always there is room, and then nothing need be waited for.
        match self.try_send(datagram) {
            Err(Error::WouldBlock) => {}
            done => return done,
        }
        self.when_writable(|framer, held, path| framer.send(held, path, datagram))
            .await
            .map(drop)
            .map_err(|error| self.discard(error, datagram.len()))
    }

    /// Sends one datagram if the socket can take it now.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when it cannot; otherwise as of [`send`](Self::send).
    pub fn try_send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        let (held, path) = self.route()?;
        let sent = self
            .framer
            .send(&held, &path, datagram)
            .map_err(|error| self.discard(refused(&held, &error), datagram.len()))?;
        self.record(sent);
        self.wish.sent += 1;
        if self.wish.sent == Wish::EVERY {
            self.look_for_own();
        }
        Ok(())
    }

    /// Sends datagrams of `segment` bytes each, the last one possibly shorter, that stand one after
    /// another in `datagrams`. The operating system cuts them up, which costs far less than to send them
    /// one by one. Waits while the socket is full.
    ///
    /// # Errors
    /// As of [`send`](Self::send), and [`Error::EmptySegment`]. Datagrams before the one that failed have
    /// been sent.
    pub async fn send_batch(&mut self, datagrams: &[u8], segment: usize) -> Result<(), Error> {
        if segment == 0 {
            return Err(Error::EmptySegment);
        }
        let mut rest = datagrams;
        while !rest.is_empty() {
            // A sender in a loop is never kept waiting by loopback.
            consume_budget().await;
            let sent = self
                .when_writable(|framer, held, path| framer.send_batch(held, path, rest, segment))
                .await
                .map_err(|error| self.discard(error, segment.min(rest.len())))?;
            rest = &rest[sent.bytes..];
        }
        Ok(())
    }

    /// Sends of a batch, as in [`send_batch`](Self::send_batch), what the socket can take now, and
    /// returns how many bytes that was: a multiple of `segment` until it is all.
    ///
    /// # Errors
    /// As of [`send_batch`](Self::send_batch), if not even the first datagram was sent;
    /// [`Error::WouldBlock`] among them.
    pub fn try_send_batch(&mut self, datagrams: &[u8], segment: usize) -> Result<usize, Error> {
        if segment == 0 {
            return Err(Error::EmptySegment);
        }
        let mut total = 0;
        while total < datagrams.len() {
            let rest = &datagrams[total..];
            let tried = self.route().and_then(|(held, path)| {
                self.framer
                    .send_batch(&held, &path, rest, segment)
                    .map_err(|error| self.discard(refused(&held, &error), segment.min(rest.len())))
            });
            match tried {
                Ok(sent) => {
                    self.record(sent);
                    total += sent.bytes;
                }
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    /// Calls `send` as soon as there is room, and with the path of that moment.
    async fn when_writable(
        &mut self,
        mut send: impl FnMut(&mut Framer, &Held, &Path) -> io::Result<Sent>,
    ) -> Result<Sent, Error> {
        loop {
            let (held, path) = self.route()?;
            let (cell, framer) = (&self.session.path, &mut self.framer);
            // The path may change or end while there is no room.
            let sent = held
                .when_writable(|| match cell.is_at(path.epoch) {
                    true => send(framer, &held, &path).map(Some),
                    false => Ok(None),
                })
                .await
                .map_err(|error| refused(&held, &error))?;
            if let Some(sent) = sent {
                self.record(sent);
                return Ok(sent);
            }
        }
    }

    /// The path of this moment and what carries it.
    fn route(&mut self) -> Result<(Held, Path), Error> {
        if let Some(path) = self.path.filter(|path| self.session.path.is_at(path.epoch))
            && let Some(held) = self.way.hold()
        {
            return Ok((held, path));
        }
        let path = match self.session.path.load() {
            Ok(path) => path,
            Err(NoPath::Closed) => return Err(Error::Closed),
            Err(reason) => return Err(reason.into()),
        };
        // A socket of the path's own may be gone while the path stays.
        if self.path != Some(path) || self.wish.looked > 0 {
            self.wish = Wish::default();
            let sockets = &self.session.sockets;
            self.way = match path.via {
                Via::Socket { socket, .. } => Way::Socket(sockets.find(socket)),
                Via::Stream(stream) => Way::Stream(sockets.find_stream(stream)),
            };
            self.path = Some(path);
        }
        match self.way.hold() {
            Some(held) => Ok((held, path)),
            None => Err(self.gone()),
        }
    }

    /// A path that carries much gets a socket of its own, if there can be one: it is looked for, and asked for.
    #[cold]
    fn look_for_own(&mut self) {
        self.wish.sent = 0;
        let Some(Path {
            via: Via::Socket {
                socket,
                destination,
            },
            ..
        }) = self.path
        else {
            return;
        };
        if self.wish.looked == Wish::MOST {
            return;
        }
        self.wish.looked += 1;
        match self.session.sockets.find_dedicated(socket, destination) {
            Some(own) => {
                self.way = Way::Socket(own);
                self.wish.looked = Wish::MOST;
            }
            None if self.session.sockets.is_shared => {}
            // If the queue is full, there will be another time.
            None => drop(self.session.control.requests.try_send(Request::Dedicate {
                socket,
                remote: destination,
            })),
        }
    }

    /// Why there is nothing to send through although there is a path.
    #[cold]
    fn gone(&self) -> Error {
        let state = self.session.control.snapshot.borrow().state;
        match self.way {
            // The server has hung up, and the engine has not said yet what takes the stream's place.
            Way::Stream(_) if state != State::Closed => Error::Send(SendError::Unreachable),
            // A socket stands as long as its path: the driver has ended.
            _ => Error::Closed,
        }
    }

    /// Counts a datagram that the system refused, and not for lack of room.
    fn discard(&self, error: Error, bytes: usize) -> Error {
        if matches!(error, Error::Send(_)) {
            self.session.path.record_discarded(1, bytes as u64);
        }
        error
    }

    fn record(&mut self, sent: Sent) {
        let (packets, bytes) = (sent.packets as u64, sent.bytes as u64);
        // Nobody needs to know it better than that.
        let now = self.ticks.passed().then(|| self.session.clock.now());
        self.session.path.record_sent(now, packets, bytes);
    }
}

fn refused(held: &Held, error: &io::Error) -> Error {
    match (error.kind(), held) {
        (io::ErrorKind::WouldBlock, _) => Error::WouldBlock,
        _ if is_too_large(error) => Error::Send(SendError::TooLarge),
        (_, Held::Socket(_)) => Error::Send(send_error(error)),
        (_, Held::Stream(_)) => Error::Send(SendError::Unreachable),
    }
}
