//! What carries a path's datagrams, and what a relay needs around them.

use core::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use nilas_ice::{Path, Via};
use nilas_net::stream::StreamWriter;
use nilas_net::{TrafficClass, UdpSocket};

use crate::indication::IndicationIds;

/// No more datagrams are framed for one system call: what the kernel cuts up at most.
const MAX_SEGMENTS: usize = 64;
/// And no more bytes.
const MAX_BATCH_BYTES: usize = 65_507;

/// What carries the datagrams of a path. Weak, so that the driver alone decides how long it is open.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Socket(Weak<UdpSocket>),
    Stream(Weak<StreamWriter>),
}

/// The same, in use.
#[derive(Debug)]
pub(crate) enum Held {
    Socket(Arc<UdpSocket>),
    Stream(Arc<StreamWriter>),
}

/// Application data that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

/// Sends datagrams, with what a relay needs around them; for that it has a buffer, which is used again.
#[derive(Debug)]
pub(crate) struct Framer {
    /// How datagrams are marked.
    pub(crate) class: TrafficClass,
    ids: IndicationIds,
    out: Vec<u8>,
}

impl Default for Way {
    fn default() -> Self {
        Self::Socket(Weak::new())
    }
}

impl Way {
    pub(crate) fn hold(&self) -> Option<Held> {
        match self {
            Self::Socket(socket) => socket.upgrade().map(Held::Socket),
            Self::Stream(stream) => stream.upgrade().map(Held::Stream),
        }
    }
}

impl Held {
    /// Does `send`, at once or as soon as there is room.
    pub(crate) async fn when_writable<T>(
        &self,
        mut send: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let stream = match self {
            Self::Socket(socket) => return socket.when_writable(send).await,
            Self::Stream(stream) => stream,
        };
        loop {
            match send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                done => return done,
            }
        }
    }
}

impl Framer {
    pub(crate) fn new(class: TrafficClass) -> Self {
        Self {
            class,
            ids: IndicationIds::default(),
            out: Vec::new(),
        }
    }

    /// Sends one datagram, if there is room now.
    #[inline]
    pub(crate) fn send(&mut self, held: &Held, path: &Path, datagram: &[u8]) -> io::Result<Sent> {
        match (held, path.via, path.framing) {
            (Held::Socket(socket), Via::Socket { destination, .. }, None) => {
                send_one(socket, destination, datagram, self.class)?;
            }
            _ => self.send_framed(held, path, datagram)?,
        }
        Ok(Sent {
            packets: 1,
            bytes: datagram.len(),
        })
    }

    /// Sends datagrams of `segment` bytes each, of which the last may be shorter: as many from the front
    /// as one system call takes. `segment` is not zero.
    pub(crate) fn send_batch(
        &mut self,
        held: &Held,
        path: &Path,
        datagrams: &[u8],
        segment: usize,
    ) -> io::Result<Sent> {
        let bytes = match (held, path.via) {
            (Held::Socket(socket), Via::Socket { destination, .. }) => match path.framing {
                None => send_segments(socket, destination, datagrams, segment, self.class)?,
                Some(_) => {
                    let framed = self.frame_batch(path, datagrams, segment)?;
                    let sent = send_segments(socket, destination, &self.out, framed, self.class)?;
                    datagrams.len().min(sent.div_ceil(framed) * segment)
                }
            },
            _ => {
                let mut bytes = 0;
                for datagram in datagrams.chunks(segment).take(MAX_SEGMENTS) {
                    match self.send_framed(held, path, datagram) {
                        Ok(()) => bytes += datagram.len(),
                        Err(error) if bytes == 0 => return Err(error),
                        Err(_) => break,
                    }
                }
                bytes
            }
        };
        Ok(Sent {
            packets: bytes.div_ceil(segment),
            bytes,
        })
    }

    fn send_framed(&mut self, held: &Held, path: &Path, datagram: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.frame(path, datagram)?;
        match (held, path.via) {
            (Held::Socket(socket), Via::Socket { destination, .. }) => {
                send_one(socket, destination, &self.out, self.class)
            }
            (Held::Stream(stream), _) => match stream.try_write_message(&self.out) {
                // More than a DTLS record holds.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(too_large()),
                done => done,
            },
            // What is held is of the same path.
            (Held::Socket(_), Via::Stream(_)) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Frames as many of a batch as one system call takes, and gives the size of each but the last.
    fn frame_batch(&mut self, path: &Path, datagrams: &[u8], segment: usize) -> io::Result<usize> {
        self.out.clear();
        let mut first = 0;
        for datagram in datagrams.chunks(segment).take(MAX_SEGMENTS) {
            if first > 0 && self.out.len() + first > MAX_BATCH_BYTES {
                break;
            }
            self.frame(path, datagram)?;
            if first == 0 {
                first = self.out.len();
            }
        }
        Ok(first.max(1))
    }

    /// Appends the datagram, framed.
    fn frame(&mut self, path: &Path, datagram: &[u8]) -> io::Result<()> {
        if path.frame(self.ids.next_for(path.framing), datagram, &mut self.out) {
            Ok(())
        } else {
            Err(too_large())
        }
    }
}

impl Clone for Framer {
    /// One with its own buffer and ids.
    fn clone(&self) -> Self {
        Self::new(self.class)
    }
}

/// Sends a datagram with this mark, by the cheaper call where there is none.
#[inline]
pub(crate) fn send_one(
    socket: &UdpSocket,
    destination: SocketAddr,
    datagram: &[u8],
    class: TrafficClass,
) -> io::Result<()> {
    if class == TrafficClass::NONE {
        return socket.try_send(destination, datagram);
    }
    socket
        .try_send_marked(destination, datagram, datagram.len(), class)
        .map(drop)
}

fn send_segments(
    socket: &UdpSocket,
    destination: SocketAddr,
    datagrams: &[u8],
    segment: usize,
    class: TrafficClass,
) -> io::Result<usize> {
    if class == TrafficClass::NONE {
        return socket.try_send_segments(destination, datagrams, segment);
    }
    socket.try_send_marked(destination, datagrams, segment, class)
}

/// No framing has room for the datagram.
#[derive(Debug)]
struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the datagram is too large for a relay")
    }
}

impl core::error::Error for TooLarge {}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, TooLarge)
}

/// Whether the datagram was too large to be framed.
pub(crate) fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooLarge>())
}
