//! The way to a server: a connected UDP socket, or a stream.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::framing::{Framer, NotFramed};
use super::{RelayError, RelayRequest};
use crate::dns::{ServerAddress, ServerTransport};
use crate::stream::{self, ClientTls, StreamReader, StreamRequest, StreamTransport, StreamWriter};
use crate::{ReceiveBatch, UdpSocket};

/// Messages that wait for a stream that takes no more. Over it, data is refused.
const QUEUED_MESSAGES: usize = 256;
/// Of these, requests have so many for themselves: a request on a stream is not sent again.
const KEPT_FOR_REQUESTS: usize = 32;
/// One read of a stream.
const READ_BYTES: usize = 16 * 1024;
/// Any datagram.
const DATAGRAM_BYTES: usize = 1 << 16;

/// Where messages go to.
#[derive(Debug)]
pub(super) enum LinkSender {
    Udp(Arc<UdpSocket>, SocketAddr),
    /// A task of its own writes them, and ends with this sender.
    Stream(mpsc::Sender<Vec<u8>>),
}

/// Where messages come from.
pub(super) enum LinkReceiver {
    Udp {
        socket: Arc<UdpSocket>,
        server: SocketAddr,
        batch: Box<ReceiveBatch>,
        /// The datagrams of the batch that were not given out yet.
        waiting: VecDeque<Range<usize>>,
    },
    Stream {
        reader: StreamReader,
        framer: Framer,
        buffer: Vec<u8>,
        /// Whether a read is a datagram, which is then in `buffer`.
        datagrams: bool,
    },
}

/// Opens the way to a server.
pub(super) async fn open(
    server: &ServerAddress,
    request: &RelayRequest,
    tls: impl Fn() -> Result<ClientTls, RelayError>,
) -> Result<(LinkSender, LinkReceiver, SocketAddr), RelayError> {
    let name = || {
        let named = server.server_name.clone();
        named.unwrap_or_else(|| server.address.ip().to_string())
    };
    let transport = match server.transport {
        ServerTransport::Udp => {
            return udp(server.address, request).map_err(|error| RelayError::socket(server, error));
        }
        ServerTransport::Tcp => StreamTransport::Tcp,
        ServerTransport::Tls => StreamTransport::Tls {
            server_name: name(),
        },
        ServerTransport::Dtls => StreamTransport::Dtls {
            server_name: name(),
        },
    };
    let mut wanted = StreamRequest::new(server.address, transport);
    wanted.local = request.local;
    wanted.proxy.clone_from(&request.proxy);
    let opened = match wanted.transport {
        StreamTransport::Tcp => stream::open_plain(&wanted, &request.deadlines).await,
        _ => stream::open(&wanted, &tls()?, &request.deadlines).await,
    };
    let stream = opened.map_err(|error| RelayError::Stream(Arc::new(error)))?;
    let local = stream.local_address();
    let (reader, writer) = stream.into_split();
    let (sender, messages) = mpsc::channel(QUEUED_MESSAGES);
    tokio::spawn(write(writer, messages));
    let receiver = LinkReceiver::Stream {
        datagrams: reader.is_datagrams(),
        reader,
        framer: Framer::default(),
        buffer: Vec::new(),
    };
    Ok((LinkSender::Stream(sender), receiver, local))
}

fn udp(
    server: SocketAddr,
    request: &RelayRequest,
) -> io::Result<(LinkSender, LinkReceiver, SocketAddr)> {
    let any = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((request.local.unwrap_or(any), 0).into())?;
    let mut local = socket.local_address();
    // Elsewhere a connected socket cannot be sent on with an address, as it is here.
    if cfg!(target_os = "linux") {
        local = socket.connect(server)?;
    }
    let socket = Arc::new(socket);
    let receiver = LinkReceiver::Udp {
        socket: Arc::clone(&socket),
        server,
        batch: Box::default(),
        waiting: VecDeque::new(),
    };
    Ok((LinkSender::Udp(socket, server), receiver, local))
}

/// Writes until there is nobody who could send more. A stream that is lost is the reader's to find out.
async fn write(mut writer: StreamWriter, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if writer.write_all(&message).await.is_err() {
            return;
        }
    }
}

impl LinkSender {
    /// Sends a message, if it can leave now.
    pub(super) fn send(&self, message: &[u8], is_request: bool) -> io::Result<()> {
        match self {
            Self::Udp(socket, server) => socket.try_send(*server, message),
            Self::Stream(queue) => {
                if !is_request && queue.capacity() <= KEPT_FOR_REQUESTS {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                queue
                    .try_send(message.to_vec())
                    .map_err(|error| match error {
                        mpsc::error::TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
                        mpsc::error::TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
                    })
            }
        }
    }

    /// Sends messages of `length` bytes each, one after another in `messages`, as many as can leave now, and says
    /// how many bytes that was.
    pub(super) fn send_all(&self, messages: &[u8], length: usize) -> io::Result<usize> {
        if let Self::Udp(socket, server) = self {
            return socket.try_send_segments(*server, messages, length);
        }
        let mut sent = 0;
        for message in messages.chunks(length) {
            match self.send(message, false) {
                Ok(()) => sent += message.len(),
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// What to wait on for room.
    pub(super) fn room(&self) -> Room {
        match self {
            Self::Udp(..) => Room::Udp,
            Self::Stream(queue) => Room::Stream(queue.clone()),
        }
    }
}

/// Waits for room, without keeping anybody from sending.
pub(super) enum Room {
    Udp,
    Stream(mpsc::Sender<Vec<u8>>),
}

impl Room {
    pub(super) async fn wait(self) {
        match self {
            // A socket's buffer drains in less than a millisecond.
            Self::Udp => tokio::time::sleep(Duration::from_millis(1)).await,
            Self::Stream(queue) => drop(queue.reserve_many(KEPT_FOR_REQUESTS + 1).await),
        }
    }
}

impl LinkReceiver {
    /// Waits for something. Nothing is lost if the wait is given up. What came is given out by
    /// [`message`](Self::message), called until there is no more.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        match self {
            Self::Udp {
                socket, waiting, ..
            } => match waiting.is_empty() {
                true => socket.readable().await,
                false => Ok(()),
            },
            Self::Stream {
                reader,
                framer,
                buffer,
                datagrams,
            } => {
                let room = if *datagrams {
                    DATAGRAM_BYTES
                } else {
                    READ_BYTES
                };
                buffer.resize(room, 0);
                let length = reader.read(buffer).await?;
                if length == 0 {
                    buffer.clear();
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer.truncate(length);
                if !*datagrams {
                    framer.push(buffer);
                    buffer.clear();
                }
                Ok(())
            }
        }
    }

    /// The next message that has come; `WouldBlock` when there is none.
    pub(super) fn message(&mut self) -> io::Result<Message<'_>> {
        match self {
            Self::Udp {
                socket,
                server,
                batch,
                waiting,
            } => loop {
                if let Some(range) = waiting.pop_front() {
                    return Ok(Message::Bytes(&batch.bytes()[range]));
                }
                socket.try_receive(batch)?;
                let from_server = batch.datagrams().filter(|(from, _)| from == server);
                waiting.extend(from_server.map(|(_, range)| range));
            },
            Self::Stream {
                buffer,
                datagrams: true,
                ..
            } => match std::mem::take(buffer) {
                datagram if datagram.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                datagram => Ok(Message::Owned(datagram)),
            },
            Self::Stream { framer, .. } => match framer.next() {
                Ok(Some(message)) => Ok(Message::Bytes(message)),
                Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                Err(NotFramed) => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server sent what is not TURN",
                )),
            },
        }
    }
}

/// One message of the server.
pub(super) enum Message<'a> {
    Bytes(&'a [u8]),
    Owned(Vec<u8>),
}

impl Message<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}
