//! Clients on TCP and TLS: what arrives goes to the core message by message, what is for them waits in a bounded queue.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;
use std::io;
use std::rc::Rc;

use nilas_net::TrafficClass;
use nilas_stun::stream_message_length;
use nilas_turn::ChannelData;
use nilas_turn::server::{ConnectionId, Handled, Input, Path, StreamHandled, StreamId, WorkerId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::Worker;
use super::handover::Order;
use crate::admission::Permit;

/// So many bytes of peers' data wait for a client that does not read; more are lost, as datagrams may be.
const MAX_QUEUE: usize = 128 * 1024;
/// So many more of the core's answers, then the client is given up.
const MAX_ANSWERS: usize = 32 * 1024;
/// A queue that was longer gives its memory back when it is empty.
const KEPT_QUEUE: usize = 4 * 1024;
/// What a stream that ends may take to take what is left.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// A client's connection.
pub(super) enum Conn {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream on its way between workers, or to its first.
pub(crate) struct Visitor {
    pub(super) conn: Conn,
    pub(super) client: SocketAddr,
    /// Its place among the connections there may be.
    pub(super) permit: Permit,
    /// What was read of it and not understood yet.
    pub(super) pending: Vec<u8>,
}

/// What waits to be written to a client.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: RefCell<Vec<u8>>,
    /// How much of the queue is written.
    sent: Cell<usize>,
    /// Where the message that is being written ends.
    end: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// It is to be closed when the queue is empty.
    closing: Cell<bool>,
    /// It is the peer's from now on.
    splice: RefCell<Option<(ConnectionId, TcpStream)>>,
    /// Wakes both directions of a splice that is to end.
    finish: tokio::sync::Notify,
}

impl Outgoing {
    /// Adds a message if there is room for it.
    fn push(&self, parts: [&[u8]; 3], most: usize) -> bool {
        let mut queue = self.queue.borrow_mut();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let sent = self.sent.get();
        if queue.len() - sent + length > most {
            return false;
        }
        if sent > queue.len() / 2 {
            queue.drain(..sent);
            self.end.set(self.end.get().saturating_sub(sent));
            self.sent.set(0);
        }
        for part in parts {
            queue.extend_from_slice(part);
        }
        drop(queue);
        self.wake();
        true
    }

    /// Closes the stream, after what is in the queue has been written.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.finish.notify_waiters();
        self.wake();
    }

    /// Gives the stream to a peer, after what is in the queue has been written.
    pub(super) fn begin_splice(&self, connection: ConnectionId, peer: TcpStream) {
        *self.splice.borrow_mut() = Some((connection, peer));
        self.wake();
    }

    /// Ready when a splice is to end.
    pub(super) async fn finished(&self) {
        let notified = self.finish.notified();
        if !self.closing.get() {
            notified.await;
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// How a stream ceased to be served here.
enum End {
    Closed,
    /// It belongs to another worker.
    Elsewhere(WorkerId),
    /// It is a peer's from now on.
    Splice(ConnectionId, TcpStream),
}

impl Worker {
    /// Serves a stream to its end.
    pub(super) async fn serve_stream(self: Rc<Self>, visitor: Visitor) {
        let Visitor {
            conn,
            client,
            permit,
            pending,
        } = visitor;
        let id = self.new_stream_id();
        let out = Rc::new(Outgoing::default());
        self.streams.borrow_mut().insert(id, Rc::clone(&out));
        self.tell_core(Input::StreamOpened { stream: id, client });
        let mut serving = Serving {
            worker: &self,
            id,
            conn,
            out: Rc::clone(&out),
            pending: Vec::new(),
            message_since: None,
            write_since: None,
            sleep: None,
        };
        let early = (!pending.is_empty())
            .then(|| serving.feed(&pending))
            .flatten();
        let end = match early {
            Some(end) => end,
            None => core::future::poll_fn(|cx| serving.poll(cx)).await,
        };
        let Serving {
            mut conn, pending, ..
        } = serving;
        match end {
            End::Closed => {
                self.forget_stream(id);
                let _ = timeout(LINGER, conn.shutdown()).await;
            }
            End::Elsewhere(worker) => {
                self.forget_stream(id);
                if let Some(mailbox) = self.shared.mailboxes.get(usize::from(worker.0)) {
                    mailbox.order(Order::Stream(Box::new(Visitor {
                        conn,
                        client,
                        permit,
                        pending,
                    })));
                }
            }
            End::Splice(connection, peer) => {
                self.splice(connection, conn, peer, pending, &out).await;
                self.tell_core(Input::PeerClosed(connection));
                self.forget_stream(id);
            }
        }
    }

    /// Adds a peer's data to what waits for a client.
    pub(super) fn to_stream(&self, stream: StreamId, parts: [&[u8]; 3]) {
        let streams = self.streams.borrow();
        if let Some(out) = streams.get(&stream)
            && !out.push(parts, MAX_QUEUE)
        {
            self.shared.counters.stream_data_lost.add(1);
        }
    }

    /// Adds an answer to what waits for a client.
    pub(super) fn answer_stream(&self, stream: StreamId, bytes: &[u8]) {
        let streams = self.streams.borrow();
        let Some(out) = streams.get(&stream) else {
            return;
        };
        if out.push([bytes, &[], &[]], MAX_QUEUE + MAX_ANSWERS) {
            self.shared.counters.tcp_answered.add(1);
        } else {
            self.shared.counters.streams_slow.add(1);
            out.close();
        }
    }

    fn forget_stream(self: &Rc<Self>, id: StreamId) {
        self.streams.borrow_mut().remove(&id);
        self.tell_core(Input::PathClosed(Path::Stream(id)));
    }

    fn new_stream_id(&self) -> StreamId {
        let number = self.next_stream.get();
        self.next_stream.set(number + 1);
        // No worker serves 2^56 streams.
        StreamId(u64::from(self.id.0) << 56 | number)
    }
}

/// A stream while its messages are the core's.
struct Serving<'a> {
    worker: &'a Rc<Worker>,
    id: StreamId,
    conn: Conn,
    out: Rc<Outgoing>,
    /// The beginning of a message.
    pending: Vec<u8>,
    /// Since when that is incomplete.
    message_since: Option<Instant>,
    /// Since when the client has taken nothing of what waits for it.
    write_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Serving<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        *self.out.waker.borrow_mut() = Some(cx.waker().clone());
        loop {
            let Ok(drained) = self.poll_write(cx) else {
                return Poll::Ready(End::Closed);
            };
            if drained {
                if self.out.closing.get() {
                    return Poll::Ready(End::Closed);
                }
                let splice = self.out.splice.borrow_mut().take();
                if let Some((connection, peer)) = splice {
                    return Poll::Ready(End::Splice(connection, peer));
                }
            }
            if self.out.closing.get() || self.out.splice.borrow().is_some() {
                return self.poll_patience(cx);
            }
            match self.poll_read(cx) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Pending => return self.poll_patience(cx),
            }
        }
    }

    /// Writes what waits. Whether nothing does any more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let out = Rc::clone(&self.out);
        loop {
            let mut queue = out.queue.borrow_mut();
            let sent = out.sent.get();
            if sent == queue.len() {
                queue.clear();
                queue.shrink_to(KEPT_QUEUE);
                out.sent.set(0);
                out.end.set(0);
                drop(queue);
                let flushed = Pin::new(&mut self.conn).poll_flush(cx)?.is_ready();
                if flushed {
                    self.write_since = None;
                }
                return Ok(flushed);
            }
            let end = match self.conn {
                Conn::Plain(_) => queue.len(),
                Conn::Tls(_) => {
                    // A record for each message: there are clients that take a record for one.
                    if out.end.get() <= sent {
                        out.end.set(sent + message_length(&queue[sent..]));
                    }
                    out.end.get()
                }
            };
            match Pin::new(&mut self.conn).poll_write(cx, &queue[sent..end])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    out.sent.set(sent + count);
                    self.write_since = None;
                }
                Poll::Pending => {
                    self.write_since.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
            }
        }
    }

    /// Reads once. That may be the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let worker = Rc::clone(self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut self.conn).poll_read(cx, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => Poll::Ready(self.feed(buffer.filled())),
            _ => Poll::Ready(Some(End::Closed)),
        }
    }

    /// Gives the core what has been read, and does what it says.
    fn feed(&mut self, bytes: &[u8]) -> Option<End> {
        let worker = self.worker;
        let path = Path::Stream(self.id);
        let now = worker.shared.clock.now();
        let mut before = core::mem::take(&mut self.pending);
        let all = if before.is_empty() {
            bytes
        } else {
            before.extend_from_slice(bytes);
            &before
        };
        let mut rest = all;
        let mut end = None;
        while !rest.is_empty() {
            let handled = worker.core.borrow_mut().handle_stream(now, self.id, rest);
            let StreamHandled { taken, handled } = handled;
            match handled {
                Handled::Done => worker.pump(now),
                Handled::Elsewhere(other) => {
                    end = Some(End::Elsewhere(other));
                    break;
                }
                // RFC 8656 section 15: Not-ECT, and best effort, the alternate behaviour: no system tells what a
                // connection's packets are marked with as they come.
                handled => worker.act(handled, path, rest, TrafficClass::NONE),
            }
            if taken == 0 {
                break;
            }
            self.message_since = None;
            rest = &rest[taken.min(rest.len())..];
        }
        worker.flush();
        worker.pump(now);
        if rest.is_empty() {
            self.message_since = None;
        } else {
            self.pending = rest.to_vec();
            self.message_since.get_or_insert_with(Instant::now);
        }
        end
    }

    /// A message that takes too long, in either direction, ends the stream.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let since = [self.message_since, self.write_since];
        let Some(since) = since.into_iter().flatten().min() else {
            self.sleep = None;
            return Poll::Pending;
        };
        let deadline = since + self.worker.shared.message_time;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        self.worker.shared.counters.streams_slow.add(1);
        Poll::Ready(End::Closed)
    }
}

/// The length of the message at the start of what waits to be written.
fn message_length(bytes: &[u8]) -> usize {
    let length = match bytes.first_chunk::<4>() {
        Some(start @ [64..=79, ..]) => ChannelData::stream_length(*start),
        _ => stream_message_length(bytes).ok().flatten().unwrap_or(0),
    };
    // Whole messages are written, so that this is only a guard.
    if length == 0 {
        bytes.len()
    } else {
        length.min(bytes.len())
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
