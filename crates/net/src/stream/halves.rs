//! An open stream: its reader and its writer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::dtls_client::{DatagramReader, DatagramWriter};
use super::outbox::Outbox;

/// An open stream to a server, or from a client.
pub struct Stream {
    reader: StreamReader,
    writer: StreamWriter,
    local: SocketAddr,
}

/// What arrives on a stream.
pub struct StreamReader(Reader);

/// What leaves on a stream. It takes bytes at once and writes them behind the caller's back, up to a
/// bound; dropping it sends what it took and then ends the stream.
pub struct StreamWriter(Writer);

enum Reader {
    Bytes(Box<dyn AsyncRead + Send + Unpin>),
    Datagrams(DatagramReader),
}

enum Writer {
    Bytes(Arc<Outbox>),
    Datagrams(DatagramWriter),
}

impl Stream {
    /// A plain TCP connection, made or accepted.
    ///
    /// # Errors
    /// When the operating system no longer knows the connection.
    pub fn from_tcp(stream: TcpStream) -> io::Result<Self> {
        let local = stream.local_addr()?;
        // A message waits for no other: each is answered, so Nagle's algorithm would only add delay.
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self::from_halves(local, reader, writer))
    }

    pub(super) fn from_tls(
        local: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::from_halves(local, reader, writer)
    }

    pub(super) const fn from_datagrams(
        local: SocketAddr,
        reader: DatagramReader,
        writer: DatagramWriter,
    ) -> Self {
        Self {
            reader: StreamReader(Reader::Datagrams(reader)),
            writer: StreamWriter(Writer::Datagrams(writer)),
            local,
        }
    }

    fn from_halves(
        local: SocketAddr,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reader: StreamReader(Reader::Bytes(Box::new(reader))),
            writer: StreamWriter(Writer::Bytes(Outbox::start(writer))),
            local,
        }
    }

    /// The local transport address: through a proxy, that of the connection to the proxy.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The two directions, for two owners.
    #[must_use]
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}

impl StreamReader {
    /// Reads what is there: bytes, or for DTLS one datagram, of which what does not fit is lost. 0 is the
    /// end of the stream.
    ///
    /// # Errors
    /// When the stream is lost; the error's text says how.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Reader::Bytes(reader) => reader.read(buffer).await,
            Reader::Datagrams(reader) => reader.read(buffer).await,
        }
    }

    /// As [`read`](Self::read), for whoever drives many streams: pending until `cx` is woken.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Reader::Bytes(reader) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Reader::Datagrams(reader) => reader.poll_read(cx, buffer),
        }
    }

    /// Whether each read is one datagram.
    #[must_use]
    pub const fn is_datagrams(&self) -> bool {
        matches!(self.0, Reader::Datagrams(_))
    }
}

impl StreamWriter {
    /// Takes as much as there is room for and says how much that was: all of it or some of it, or for
    /// DTLS, where a call is a datagram, all of it.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now: [`writable`](Self::writable) waits for some. Any other
    /// when the stream is lost, or for `InvalidInput` when a datagram does not fit a DTLS record.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Writer::Bytes(outbox) => outbox.try_write(bytes),
            Writer::Datagrams(writer) => writer.try_write(bytes),
        }
    }

    /// Takes a whole message, or nothing of it.
    ///
    /// # Errors
    /// As of [`try_write`](Self::try_write). There is room for a message while [`writable`](Self::writable)
    /// does not wait.
    pub fn try_write_message(&self, message: &[u8]) -> io::Result<()> {
        match &self.0 {
            Writer::Bytes(outbox) => outbox.try_write_message(message),
            Writer::Datagrams(writer) => writer.try_write(message).map(drop),
        }
    }

    /// Waits until there is room for at least one byte, message or datagram. Many may wait.
    ///
    /// # Errors
    /// When the stream is lost.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.0 {
            Writer::Bytes(outbox) => outbox.writable().await,
            Writer::Datagrams(writer) => writer.writable().await,
        }
    }

    /// Ends the stream as dropping the writer does, though others may still hold it: what was taken still
    /// leaves, and nothing more is taken. A stream of datagrams ends only when the writer is dropped.
    pub fn close(&self) {
        match &self.0 {
            Writer::Bytes(outbox) => outbox.close(),
            // Its queue ends with it, which the stream's task sees.
            Writer::Datagrams(_) => (),
        }
    }

    /// Takes all of `bytes`, for DTLS as one datagram, waiting for room where there is none.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write), but for `WouldBlock`.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.try_write(bytes) {
                Ok(taken) if taken == bytes.len() => return Ok(()),
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter").finish_non_exhaustive()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("local", &self.local)
            .field("datagrams", &self.reader.is_datagrams())
            .finish()
    }
}
