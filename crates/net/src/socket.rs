//! UDP sockets that send and receive many datagrams with one system call.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use nilas_ice::{BindError, SendError};
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt::ReusePort};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;

use crate::traffic_class::{Ecn, TrafficClass, send_marked};
use crate::udp_state::udp_state;
use crate::watched::Watched;

/// Asked of the system for each socket and direction, so that a burst is not lost while the driver is
/// busy elsewhere. The system grants what it allows; memory is used only while datagrams wait.
const BUFFER_BYTES: usize = 1 << 20;
/// What fits in one UDP datagram over IPv4, and so in one segmented send.
const MAX_PAYLOAD: usize = 65_507;
/// Room for one datagram of any size, or for as many as the kernel joins into one.
const SLOT_BYTES: usize = 1 << 16;
/// From one slot to the next. Datagrams are short, and beginnings a power of two apart would share their places
/// in the processor's cache.
const STRIDE_BYTES: usize = SLOT_BYTES + 1344;
/// Room for so many messages is always prepared; for more, which costs a little even if they do not come, once
/// half as many did.
const LEAST_ROOM: usize = 4;

/// A UDP socket on tokio.
///
/// It must be made, and is awaited, inside a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct UdpSocket {
    io: Watched,
    state: UdpSocketState,
    local: SocketAddr,
    /// The one remote that it sends to without saying so.
    remote: Option<SocketAddr>,
    /// Whether the system tells how datagrams that came are marked.
    tells_ecn: AtomicBool,
}

impl UdpSocket {
    /// Binds a socket to an address (port 0: any). An IPv6 socket takes no IPv4.
    ///
    /// # Errors
    /// The system's; [`bind_error`] sorts it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = unbound(address)?;
        socket.bind(&address.into())?;
        Self::new(socket, None)
    }

    fn new(socket: Socket, remote: Option<SocketAddr>) -> io::Result<Self> {
        let socket = socket.into();
        let state = udp_state(&socket)?;
        let local = socket.local_addr()?;
        let io = Watched::new(socket)?;
        Ok(Self {
            io,
            state,
            local,
            remote,
            // Elsewhere quinn-udp has asked for it.
            tells_ecn: AtomicBool::new(!cfg!(target_os = "linux")),
        })
    }

    /// Lets the socket hear this remote only, and what the network says about it: see [`readable`](Self::readable).
    /// Sending remains to any remote only where the system allows both; so send to this one.
    ///
    /// # Errors
    /// The system's, such as that there is no route.
    pub fn connect(&self, remote: SocketAddr) -> io::Result<SocketAddr> {
        let socket = SockRef::from(self.io.socket());
        socket.connect(&SockAddr::from(remote))?;
        self.io.socket().local_addr()
    }

    /// One more socket at the same address, for this remote alone: the system does not look the way up for each datagram
    /// that it sends there, and hands it what comes from there, and everything else to this one as before. In the first
    /// moment it may be handed what comes from others, too.
    ///
    /// On such a socket an ICMP error, which anybody can have sent, is told once by [`try_receive`](Self::try_receive) or a
    /// send; sending tries again by itself.
    ///
    /// # Errors
    /// The system's, and [`io::ErrorKind::Unsupported`] where it is not Linux.
    #[cfg(target_os = "linux")]
    pub fn dedicated(&self, remote: SocketAddr) -> io::Result<Self> {
        let twin = unbound(self.local)?;
        // Only while the second one is bound, so that no third one can be.
        setsockopt(self.io.socket(), ReusePort, &true)?;
        let bound = setsockopt(&twin, ReusePort, &true)
            .map_err(io::Error::from)
            .and_then(|()| twin.bind(&self.local.into()));
        setsockopt(self.io.socket(), ReusePort, &false)?;
        bound?;
        setsockopt(&twin, ReusePort, &false)?;
        twin.connect(&remote.into())?;
        let twin = Self::new(twin, Some(remote))?;
        if self.tells_ecn.load(Ordering::Relaxed) {
            twin.tell_ecn()?;
        }
        Ok(twin)
    }

    /// As on Linux, where it can be done.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`].
    #[cfg(not(target_os = "linux"))]
    pub fn dedicated(&self, _remote: SocketAddr) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The one remote that it was made for by [`dedicated`](Self::dedicated).
    pub fn dedicated_to(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Has the system tell how each datagram that comes is marked, which costs a little with each:
    /// see [`ReceiveBatch::marked_datagrams`].
    ///
    /// # Errors
    /// The system's.
    pub fn tell_ecn(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match self.local.is_ipv4() {
            true => SockRef::from(self.io.socket()).set_recv_tos_v4(true)?,
            false => SockRef::from(self.io.socket()).set_recv_tclass_v6(true)?,
        }
        self.tells_ecn.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until there may be something to receive.
    ///
    /// # Errors
    /// On a connected socket, what an ICMP error said: the remote refuses, or cannot be reached. Anybody can have
    /// sent that. It is told once, and the socket goes on.
    pub async fn readable(&self) -> io::Result<()> {
        let ready = self.io.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            // Taken, so that the next one is waited for; this call says nothing but that.
            let _ = self.io.try_io(Interest::ERROR, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            if let Some(error) = self.io.socket().take_error()? {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The address it is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram, if the socket can take it now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it cannot; others are sorted by [`send_error`].
    pub fn try_send(&self, destination: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(self.io.socket());
        if self.remote == Some(destination) {
            return self.past_reports(|| socket.send(datagram)).map(drop);
        }
        // A plain `sendto`: without the control messages that batches need it is the cheaper call.
        socket
            .send_to(datagram, &SockAddr::from(destination))
            .map(drop)
    }

    /// Sends datagrams of `segment` bytes each, the last one possibly shorter, that stand one after
    /// another in `datagrams`: as many from the front as one system call takes. Returns the bytes sent,
    /// a multiple of `segment` until all are. An empty slice is nothing to send.
    ///
    /// # Errors
    /// As of [`try_send`](Self::try_send), when not even the first was sent;
    /// [`io::ErrorKind::InvalidInput`] for a `segment` of zero.
    pub fn try_send_segments(
        &self,
        destination: SocketAddr,
        datagrams: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let chunk = self.one_call(datagrams, segment)?;
        if chunk.len() <= segment {
            if !chunk.is_empty() {
                self.try_send(destination, chunk)?;
            }
            return Ok(chunk.len());
        }
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: chunk,
            segment_size: Some(segment),
            src_ip: None,
        };
        match self.past_reports(|| self.state.try_send(self.io.socket().into(), &transmit)) {
            Ok(()) => Ok(chunk.len()),
            Err(error) if may_be_segmentation(&error) => send_singly(chunk, segment, |datagram| {
                self.try_send(destination, datagram)
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether datagrams can be marked with a DSCP one by one; where they cannot, only ECN is.
    pub const MARKS_DSCP: bool = cfg!(target_os = "linux");

    /// As [`try_send_segments`](Self::try_send_segments), with this mark on each datagram. One that is empty is sent,
    /// too, if it stands alone.
    ///
    /// # Errors
    /// As of [`try_send_segments`](Self::try_send_segments).
    pub fn try_send_marked(
        &self,
        destination: SocketAddr,
        datagrams: &[u8],
        segment: usize,
        class: TrafficClass,
    ) -> io::Result<usize> {
        if datagrams.len() <= segment {
            self.send_marked(destination, datagrams, None, class)?;
            return Ok(datagrams.len());
        }
        let chunk = self.one_call(datagrams, segment)?;
        let segments = (chunk.len() > segment).then_some(segment);
        match self.send_marked(destination, chunk, segments, class) {
            Ok(()) => Ok(chunk.len()),
            Err(error) if segments.is_some() && may_be_segmentation(&error) => {
                send_singly(chunk, segment, |datagram| {
                    self.send_marked(destination, datagram, None, class)
                })
            }
            Err(error) => Err(error),
        }
    }

    fn send_marked(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment: Option<usize>,
        class: TrafficClass,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: None,
        };
        self.past_reports(|| send_marked(self.io.socket(), &self.state, &transmit, class))
    }

    /// Does `send`, and again where a dedicated socket tells by it what an ICMP error said about one before: that took
    /// this one's place.
    fn past_reports<T>(&self, send: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match send() {
            Err(error) if self.remote.is_some() && is_reported(&error) => send(),
            done => done,
        }
    }

    /// As many datagrams from the front as one system call takes.
    fn one_call<'a>(&self, datagrams: &'a [u8], segment: usize) -> io::Result<&'a [u8]> {
        if segment == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let most = self
            .state
            .max_gso_segments()
            .min(MAX_PAYLOAD / segment)
            .max(1);
        Ok(&datagrams[..datagrams.len().min(most * segment)])
    }

    /// Does `send`, at once or as soon as the socket can take more.
    ///
    /// # Errors
    /// Those of `send`, but for [`io::ErrorKind::WouldBlock`].
    pub async fn when_writable<T>(&self, send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.io.when_writable(send).await
    }

    /// Whether there may be something to receive. One task at a time can wait for it.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_readable(cx)
    }

    /// Fills `batch` with what has arrived, in place of what it held.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing has; `batch` is empty then.
    pub fn try_receive(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        batch.count = 0;
        let received = self.io.try_io(Interest::READABLE, || {
            self.look(batch)?;
            // Where the system takes many at a time, fewer than there was room for mean that there are no
            // more. Saying so here makes tokio wait for the next, and saves a call that would bring nothing.
            if batch.is_partial() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match received {
            Err(error) if batch.count == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// As [`try_receive`](Self::try_receive), but asks the system even where the runtime knows of nothing that has arrived:
    /// to look is cheaper than to be told.
    ///
    /// # Errors
    /// As of [`try_receive`](Self::try_receive).
    pub fn look(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        batch.count = 0;
        batch.tells_ecn = self.tells_ecn.load(Ordering::Relaxed);
        batch.room = batch.next_room;
        let mut slots = batch.bytes.chunks_exact_mut(STRIDE_BYTES);
        // `bytes` holds exactly one slot for each message.
        let mut slices: [_; BATCH_SIZE] = std::array::from_fn(|_| {
            IoSliceMut::new(
                slots
                    .next()
                    .map(|slot| &mut slot[..SLOT_BYTES])
                    .unwrap_or_default(),
            )
        });
        let slices = &mut slices[..batch.room];
        let received = self
            .state
            .recv(self.io.socket().into(), slices, &mut batch.meta);
        batch.count = *received.as_ref().unwrap_or(&0);
        batch.next_room = match batch.is_partial() {
            true => (batch.count * 2).clamp(LEAST_ROOM, BATCH_SIZE),
            false => BATCH_SIZE,
        };
        received.map(drop)
    }
}

/// Room for what one call of [`UdpSocket::try_receive`] brings.
///
/// Two mebibytes of address space; memory is used as far as datagrams fill it.
#[derive(Debug)]
pub struct ReceiveBatch {
    bytes: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    count: usize,
    /// Messages that there was room for, and that there will be.
    room: usize,
    next_room: usize,
    tells_ecn: bool,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            bytes: vec![0; BATCH_SIZE * STRIDE_BYTES],
            meta: [RecvMeta::default(); BATCH_SIZE],
            count: 0,
            room: BATCH_SIZE,
            next_room: LEAST_ROOM,
            tells_ecn: false,
        }
    }
}

impl ReceiveBatch {
    /// The datagrams in the order of arrival: who sent it, and where in [`bytes`](Self::bytes) it stands.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, Range<usize>)> {
        self.marked_datagrams()
            .map(|(remote, range, _)| (remote, range))
    }

    /// The same, and how each is marked: `None` where the socket was not asked to [tell](UdpSocket::tell_ecn).
    pub fn marked_datagrams(
        &self,
    ) -> impl Iterator<Item = (SocketAddr, Range<usize>, Option<Ecn>)> {
        self.meta[..self.count]
            .iter()
            .enumerate()
            .flat_map(|(slot, meta)| {
                let start = slot * STRIDE_BYTES;
                let end = start + meta.len.min(SLOT_BYTES);
                // An empty datagram is one, too.
                let stride = meta.stride.max(1);
                let first = start..end.min(start + stride);
                let more = (start + stride..end)
                    .step_by(stride)
                    .map(move |at| at..end.min(at + stride));
                // The kernel joins only datagrams of one mark.
                let ecn = self.tells_ecn.then(|| Ecn::of(meta.ecn));
                std::iter::once(first)
                    .chain(more)
                    .map(move |range| (meta.addr, range, ecn))
            })
    }

    /// The bytes that the ranges are of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there was room for more, so that the socket was empty afterwards.
    pub fn is_partial(&self) -> bool {
        self.count < self.room
    }
}

/// Some interfaces refuse segmentation offload, and say so only when it is used: the same
/// datagrams may still go one by one. If the fault is another one, the first of them tells.
fn send_singly(
    datagrams: &[u8],
    segment: usize,
    send: impl Fn(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let mut sent = 0;
    for datagram in datagrams.chunks(segment) {
        match send(datagram) {
            Ok(()) => sent += datagram.len(),
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// EIO comes from drivers without checksum offload, EINVAL from those that cannot segment at all.
fn may_be_segmentation(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::InvalidInput || (cfg!(unix) && error.raw_os_error() == Some(EIO))
}

/// A socket that can be bound to an address like this one.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A refusal leaves the system's default sizes, which work.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether an ICMP error may have said so, about a datagram that was sent before.
pub fn is_reported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
    )
}

/// Why a socket could not be bound, in the engine's terms.
pub fn bind_error(error: &io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse,
        io::ErrorKind::AddrNotAvailable => BindError::AddressNotAvailable,
        io::ErrorKind::PermissionDenied => BindError::PermissionDenied,
        _ => BindError::Other,
    }
}

/// Why a datagram could not be sent, in the engine's terms.
pub fn send_error(error: &io::Error) -> SendError {
    if quinn_udp::is_msg_size_err(error) {
        return SendError::TooLarge;
    }
    match error.kind() {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // What Linux says when the source address, such as a loopback one, cannot go there.
        | io::ErrorKind::InvalidInput => SendError::Unreachable,
        io::ErrorKind::PermissionDenied => SendError::PermissionDenied,
        _ => SendError::Other,
    }
}
