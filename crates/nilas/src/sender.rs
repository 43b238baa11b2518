//! Sending: from the application's task straight to the socket.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use nilas_ice::{MAX_HEAD, MAX_TAIL, NoPath, Path, SendError, Via};
use nilas_net::{UdpSocket, send_error};
use nilas_stun::TransactionId;
use tokio::task::coop::consume_budget;

use crate::error::Error;
use crate::session::Session;

/// Sends to the peer of an agent, from any task; clones send independently.
///
/// It exists before there is a path, and says so when it is used then. Sending takes no lock and does
/// not pass the agent's task: the path is read anew for every datagram, so that nothing is sent any more
/// once the peer's consent has expired (RFC 7675 section 5.1).
#[derive(Clone, Debug)]
pub struct Sender {
    session: Arc<Session>,
    /// The path of which `socket` is the socket.
    path: Option<Path>,
    socket: Weak<UdpSocket>,
}

impl Sender {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            path: None,
            socket: Weak::new(),
        }
    }

    /// Sends one datagram, and waits while the socket is full.
    ///
    /// # Errors
    /// [`Error::NoPath`] while there is no path, [`Error::Send`] when the operating system refuses, and
    /// [`Error::Closed`].
    pub async fn send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        let length = datagram.len();
        // A sender in a loop is never kept waiting by loopback: others must have their turn all the same.
        consume_budget().await;
        // Nearly always there is room, and then nothing need be waited for.
        match self.try_send(datagram) {
            Err(Error::WouldBlock) => {}
            done => return done,
        }
        self.when_writable(|socket, destination, path| {
            socket
                .try_send(destination, &framed(path, datagram)?)
                .map(|()| (1, length))
        })
        .await
        .map(drop)
    }

    /// Sends one datagram if the socket can take it now.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when it cannot; otherwise as of [`send`](Self::send).
    pub fn try_send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        let (socket, destination, path) = self.route()?;
        framed(&path, datagram)
            .and_then(|framed| socket.try_send(destination, &framed))
            .map_err(|error| refused(&error))?;
        self.session
            .path
            .record_sent(self.session.clock.now(), 1, datagram.len() as u64);
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
            let sent = self
                .when_writable(|socket, destination, path| {
                    let bytes = send_segments(socket, destination, path, rest, segment)?;
                    Ok((bytes.div_ceil(segment), bytes))
                })
                .await?;
            rest = &rest[sent..];
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
        let mut sent = 0;
        while sent < datagrams.len() {
            let tried = self.route().and_then(|(socket, destination, path)| {
                let rest = &datagrams[sent..];
                let bytes = send_segments(&socket, destination, &path, rest, segment)
                    .map_err(|error| refused(&error))?;
                let packets = bytes.div_ceil(segment) as u64;
                self.session
                    .path
                    .record_sent(self.session.clock.now(), packets, bytes as u64);
                Ok(bytes)
            });
            match tried {
                Ok(bytes) => sent += bytes,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Calls `send`, which tells the datagrams and bytes it sent, as soon as the socket can take it, and
    /// with the path of that moment. Returns the bytes.
    async fn when_writable(
        &mut self,
        mut send: impl FnMut(&UdpSocket, SocketAddr, &Path) -> io::Result<(usize, usize)>,
    ) -> Result<usize, Error> {
        // A sender in a loop is never kept waiting by loopback: others must have their turn all the same.
        consume_budget().await;
        loop {
            let (socket, destination, path) = self.route()?;
            let cell = &self.session.path;
            // The path may change or end while the socket is full.
            let sent = socket
                .when_writable(|| match cell.load() {
                    Ok(now) if now == path => send(&socket, destination, &path).map(Some),
                    _ => Ok(None),
                })
                .await
                .map_err(|error| refused(&error))?;
            if let Some((packets, bytes)) = sent {
                cell.record_sent(self.session.clock.now(), packets as u64, bytes as u64);
                return Ok(bytes);
            }
        }
    }

    /// The path of this moment and its socket.
    fn route(&mut self) -> Result<(Arc<UdpSocket>, SocketAddr, Path), Error> {
        let path = match self.session.path.load() {
            Ok(path) => path,
            Err(NoPath::Closed) => return Err(Error::Closed),
            Err(reason) => return Err(reason.into()),
        };
        let Via::Socket {
            socket,
            destination,
        } = path.via
        else {
            return Err(Error::Send(SendError::Other));
        };
        if self.path != Some(path) {
            self.socket = self.session.sockets.find(socket);
            self.path = Some(path);
        }
        // A socket that is gone while its path stands: the driver has ended.
        let socket = self.socket.upgrade().ok_or(Error::Closed)?;
        Ok((socket, destination, path))
    }
}

/// A datagram with what its relay needs around it.
fn framed<'a>(path: &Path, datagram: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
    if path.framing.is_none() {
        return Ok(Cow::Borrowed(datagram));
    }
    let mut framed = Vec::with_capacity(datagram.len() + MAX_HEAD + MAX_TAIL);
    match path.frame(TransactionId::new([0; 12]), datagram, &mut framed) {
        true => Ok(Cow::Owned(framed)),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Sends what the socket takes of a batch; by way of a relay, one datagram.
fn send_segments(
    socket: &UdpSocket,
    destination: SocketAddr,
    path: &Path,
    datagrams: &[u8],
    segment: usize,
) -> io::Result<usize> {
    if path.framing.is_none() {
        return socket.try_send_segments(destination, datagrams, segment);
    }
    let first = &datagrams[..segment.min(datagrams.len())];
    socket.try_send(destination, &framed(path, first)?)?;
    Ok(first.len())
}

fn refused(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => Error::WouldBlock,
        _ => Error::Send(send_error(error)),
    }
}
