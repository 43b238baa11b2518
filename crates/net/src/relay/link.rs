//! The way to a server: a connected UDP socket, or a stream.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::framing::{Framer, NotFramed};
use super::{RelayError, RelayRequest};
use crate::dns::{ServerAddress, ServerTransport};
use crate::stream::{self, ClientTls, StreamReader, StreamRequest, StreamTransport, StreamWriter};

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
    Udp(Arc<UdpSocket>),
    /// A task of its own writes them, and ends with this sender.
    Stream(mpsc::Sender<Vec<u8>>),
}

/// Where messages come from.
pub(super) enum LinkReceiver {
    Udp(Arc<UdpSocket>, Vec<u8>),
    Stream {
        reader: StreamReader,
        framer: Framer,
        buffer: Vec<u8>,
        /// What was read is a datagram of so many bytes, in `buffer`.
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
            return udp(server.address, request)
                .await
                .map_err(|error| RelayError::socket(server, error));
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

async fn udp(
    server: SocketAddr,
    request: &RelayRequest,
) -> io::Result<(LinkSender, LinkReceiver, SocketAddr)> {
    let any = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((request.local.unwrap_or(any), 0)).await?;
    // Connected, so that nobody else is heard, and the network's word that nobody is there is.
    socket.connect(server).await?;
    // A new socket counts as full until the runtime has looked at it: the first request would be lost.
    socket.writable().await?;
    let local = socket.local_addr()?;
    let socket = Arc::new(socket);
    let receiver = LinkReceiver::Udp(Arc::clone(&socket), vec![0; DATAGRAM_BYTES]);
    Ok((LinkSender::Udp(socket), receiver, local))
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
            Self::Udp(socket) => socket.try_send(message).map(drop),
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

    /// What to wait on for room.
    pub(super) fn room(&self) -> Room {
        match self {
            Self::Udp(socket) => Room::Udp(Arc::clone(socket)),
            Self::Stream(queue) => Room::Stream(queue.clone()),
        }
    }
}

/// Waits for room, without keeping anybody from sending.
pub(super) enum Room {
    Udp(Arc<UdpSocket>),
    Stream(mpsc::Sender<Vec<u8>>),
}

impl Room {
    pub(super) async fn wait(self) {
        match self {
            // An error is there to be found by the next send.
            Self::Udp(socket) => drop(socket.writable().await),
            Self::Stream(queue) => drop(queue.reserve_many(KEPT_FOR_REQUESTS + 1).await),
        }
    }
}

impl LinkReceiver {
    /// Waits for something. Nothing is lost if the wait is given up. What came is given out by
    /// [`message`](Self::message), called until there is no more.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        match self {
            Self::Udp(socket, _) => {
                let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
                if ready.is_error() {
                    // Taken, so that it is waited for again: this says nothing but that.
                    let _ = socket.try_io(Interest::ERROR, || {
                        Err::<(), _>(io::ErrorKind::WouldBlock.into())
                    });
                    if let Some(error) = socket.take_error()? {
                        return Err(error);
                    }
                }
                Ok(())
            }
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
            Self::Udp(socket, buffer) => {
                let length = socket.try_recv(buffer)?;
                Ok(Message::Bytes(&buffer[..length]))
            }
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
