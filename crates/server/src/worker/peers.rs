//! Connections to and from peers over TCP, and their bytes on their way to and from clients (RFC 6062).

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::rc::Rc;

use nilas_stun::AddressFamily;
use nilas_turn::server::{
    BindError, ConnectError, ConnectionId, Handled, Input, RelayId, StreamId,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Worker;
use super::streams::{Conn, LINGER, Outgoing};
use crate::config::RelayAddress;
use crate::ports::PortLease;

/// Connections from peers that may wait to be accepted.
const BACKLOG: i32 = 64;
/// Read at one time, in each direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long a connection that has ended in one direction may be silent in the other.
const HALF_OPEN: Duration = Duration::from_secs(60);
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A relayed transport address over TCP.
pub(super) struct TcpRelay {
    pub(super) id: RelayId,
    // Closed before its port is given back.
    listener: TcpListener,
    lease: PortLease,
    address: RelayAddress,
}

/// A connection between a relayed transport address and a peer.
pub(super) enum Peer {
    /// It is being made.
    Connecting(AbortHandle),
    /// It is not read until the client has a stream for it.
    Waiting(TcpStream),
    /// Its bytes are those of this stream.
    Spliced(Rc<Outgoing>),
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromClient,
    FromPeer,
}

/// What passes between a client and a peer.
struct Flow<'a> {
    connection: ConnectionId,
    out: &'a Outgoing,
    /// One direction has ended.
    half: Cell<bool>,
    /// When something passed.
    passed: Cell<Instant>,
}

impl Flow<'_> {
    /// Ready when one direction has ended and nothing passes in the other: whoever has ended it is gone altogether.
    async fn deserted(&self) {
        loop {
            sleep(HALF_OPEN / 2).await;
            if self.half.get() && self.passed.get().elapsed() >= HALF_OPEN {
                return;
            }
        }
    }
}

impl Worker {
    /// Binds a relayed transport address over TCP, and begins to accept peers.
    pub(super) fn bind_tcp_relay(
        self: &Rc<Self>,
        id: RelayId,
        family: AddressFamily,
    ) -> Result<SocketAddr, BindError> {
        let address = self.relay_address(family).ok_or(BindError::Other)?;
        let mut rng = self.rng.borrow_mut();
        let ports = &self.shared.ports;
        let (listener, lease) = ports.bind_tcp(address.local, &mut *rng, open)?;
        let listener = TcpListener::from_std(listener).map_err(|_| BindError::Other)?;
        let public = SocketAddr::new(address.public, lease.address().port());
        let relay = Rc::new(TcpRelay {
            id,
            listener,
            lease,
            address,
        });
        let task = tokio::task::spawn_local(Rc::clone(self).accept_peers(Rc::clone(&relay)));
        self.relays
            .borrow_mut()
            .insert_tcp(relay, task.abort_handle());
        Ok(public)
    }

    async fn accept_peers(self: Rc<Self>, relay: Rc<TcpRelay>) {
        loop {
            let (stream, peer) = match relay.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "accepting a peer failed");
                    sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let input = Input::PeerAccepted {
                relay: relay.id,
                peer: relay.address.seen(peer),
            };
            let now = self.shared.clock.now();
            let handled = self.core.borrow_mut().handle(now, input);
            if let Handled::Accepted(connection) = handled {
                let _ = stream.set_nodelay(true);
                self.peers
                    .borrow_mut()
                    .insert(connection, Peer::Waiting(stream));
            }
            self.pump(now);
        }
    }

    /// Connects to a peer from a relayed transport address.
    pub(super) fn connect_peer(
        self: &Rc<Self>,
        connection: ConnectionId,
        relay: RelayId,
        peer: SocketAddr,
    ) {
        let relay = self.relays.borrow().tcp(relay).map(Rc::clone);
        let worker = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            let connected = match &relay {
                Some(relay) => relay.connect(peer).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            drop(relay);
            let result = match connected {
                Ok(stream) => {
                    worker
                        .peers
                        .borrow_mut()
                        .insert(connection, Peer::Waiting(stream));
                    Ok(())
                }
                Err(error) => {
                    worker.peers.borrow_mut().remove(&connection);
                    Err(match error.kind() {
                        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
                        io::ErrorKind::TimedOut => ConnectError::TimedOut,
                        _ => ConnectError::Other,
                    })
                }
            };
            worker.tell_core(Input::PeerConnected { connection, result });
        });
        self.peers
            .borrow_mut()
            .insert(connection, Peer::Connecting(task.abort_handle()));
    }

    /// Closes a peer's connection, after what was read from its client has been written.
    pub(super) fn close_peer(&self, connection: ConnectionId) {
        match self.peers.borrow_mut().remove(&connection) {
            Some(Peer::Connecting(task)) => task.abort(),
            Some(Peer::Spliced(out)) => out.close(),
            Some(Peer::Waiting(_)) | None => {}
        }
    }

    /// Makes a client's stream and a peer's connection one.
    pub(super) fn begin_splice(&self, stream: StreamId, connection: ConnectionId) {
        let out = self.streams.borrow().get(&stream).map(Rc::clone);
        let mut peers = self.peers.borrow_mut();
        let Some(out) = out else {
            peers.remove(&connection);
            return;
        };
        if let Some(Peer::Waiting(peer)) = peers.remove(&connection) {
            peers.insert(connection, Peer::Spliced(Rc::clone(&out)));
            out.begin_splice(connection, peer);
        } else {
            out.close();
        }
    }

    /// Carries bytes between a client and a peer until both have ended, either fails, or the core wants it to end.
    pub(super) async fn splice(
        self: &Rc<Self>,
        connection: ConnectionId,
        client: Conn,
        mut peer: TcpStream,
        early: Vec<u8>,
        out: &Outgoing,
    ) {
        let flow = Flow {
            connection,
            out,
            half: Cell::new(false),
            passed: Cell::new(Instant::now()),
        };
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_peer, mut to_peer) = peer.split();
        let up = async {
            let direction = Direction::FromClient;
            self.pass(&flow, direction, &early, &mut to_peer).await?;
            self.carry(&flow, direction, &mut from_client, &mut to_peer)
                .await
        };
        let direction = Direction::FromPeer;
        let down = self.carry(&flow, direction, &mut from_peer, &mut to_client);
        let lingered = async {
            out.finished().await;
            sleep(LINGER).await;
        };
        tokio::select! {
            _ = async { tokio::try_join!(up, down) } => {}
            () = lingered => {}
            () = flow.deserted() => {}
        }
        self.peers.borrow_mut().remove(&connection);
        let _ = timeout(LINGER, to_client.shutdown()).await;
    }

    /// Carries bytes one way, to their end: an end on one side is one on the other.
    async fn carry(
        self: &Rc<Self>,
        flow: &Flow<'_>,
        direction: Direction,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = tokio::select! {
                biased;
                () = flow.out.finished() => 0,
                count = from.read(&mut buffer) => count?,
            };
            if count == 0 {
                flow.half.set(true);
                return to.shutdown().await;
            }
            self.pass(flow, direction, &buffer[..count], to).await?;
        }
    }

    /// Writes bytes as soon as there is bandwidth for them. Until then no more are read.
    async fn pass(
        self: &Rc<Self>,
        flow: &Flow<'_>,
        direction: Direction,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (from_client, from_peer) = match direction {
            Direction::FromClient => (bytes.len(), 0),
            Direction::FromPeer => (0, bytes.len()),
        };
        loop {
            let now = self.shared.clock.now();
            let charged =
                self.core
                    .borrow_mut()
                    .charge(now, flow.connection, from_client, from_peer);
            match charged {
                Ok(()) => break,
                Err(wait) => sleep(wait).await,
            }
        }
        to.write_all(bytes).await?;
        to.flush().await?;
        flow.passed.set(Instant::now());
        Ok(())
    }
}

impl TcpRelay {
    async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let local = self.lease.address();
        let socket = if local.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // RFC 6062 section 5.2: from the relayed transport address, where this relay listens, too.
        socket.set_reuseaddr(true)?;
        #[cfg(unix)]
        socket.set_reuseport(true)?;
        socket.bind(local)?;
        let stream = socket.connect(self.address.reached(peer)).await?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// A listening socket for a relay, bound to this address.
fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections to peers are made from the same port. It is nobody else's: the ports are kept by this process.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
