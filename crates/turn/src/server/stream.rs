//! Streams from clients: messages are cut out of them (RFC 8489 section 6.2.2, RFC 8656 section 12.5), and those
//! that lead to nothing are closed.

use core::net::SocketAddr;

use nilas_stun::{HEADER_LENGTH, MAGIC_COOKIE, stream_message_length};

use super::Server;
use super::io::{Command, ConnectionId, Handled, Path, StreamHandled, StreamId};
use super::timers::Timer;
use crate::arena::Key;
use crate::channel_data::ChannelData;
use crate::time::Time;

/// The longest message from a client that has no allocation yet: how much a driver keeps for a stranger.
const MAX_STRANGERS_MESSAGE: usize = 4_096;

/// What the server knows about a stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: SocketAddr,
    /// When it is closed unless an allocation is made on it.
    pub(super) deadline: Option<Time>,
    /// The connection to a peer that its bytes belong to (RFC 6062).
    pub(super) bound: Option<Key>,
}

impl Server {
    /// Takes bytes of a stream in: at most one message, which is dealt with like a datagram.
    ///
    /// Call it again with the rest until it takes nothing; keep that for when more has come. After
    /// [`Command::Splice`] the stream's bytes are the peer's and nothing is taken here any more.
    pub fn handle_stream(&mut self, now: Time, stream: StreamId, bytes: &[u8]) -> StreamHandled {
        let nothing = |taken| StreamHandled {
            taken,
            handled: Handled::Done,
        };
        let Some(state) = self.streams.get(&stream) else {
            // It has been closed; what still comes is nobody's.
            return nothing(bytes.len());
        };
        if state.bound.is_some() {
            return nothing(0);
        }
        let path = Path::Stream(stream);
        let has_allocation = self.paths.contains_key(&path);
        let length = match frame_length(bytes, has_allocation) {
            Frame::Message(length) => length,
            Frame::Incomplete => return nothing(0),
            Frame::Misframed => {
                // There is no way to find the next message: nothing that follows can be understood.
                self.counters.streams_misframed += 1;
                self.outbox.command(Command::CloseStream(stream));
                self.path_closed(now, path);
                return nothing(bytes.len());
            }
        };
        let handled = self.client_message(now, path, &bytes[..length]);
        StreamHandled {
            taken: if matches!(handled, Handled::Elsewhere(_)) {
                // The other core takes it.
                0
            } else {
                length
            },
            handled,
        }
    }

    pub(super) fn stream_opened(&mut self, now: Time, stream: StreamId, client: SocketAddr) {
        self.streams.insert(
            stream,
            Stream {
                client,
                deadline: None,
                bound: None,
            },
        );
        self.start_stream_patience(now, stream);
    }

    /// The stream is gone: with it goes what was bound to it.
    pub(super) fn forget_stream(&mut self, stream: StreamId) {
        self.stop_stream_patience(stream);
        let Some(state) = self.streams.remove(&stream) else {
            return;
        };
        if let Some(connection) = state.bound {
            // RFC 6062 section 5.5: with the client's data connection, the peer's is closed.
            self.end_connection(ConnectionId(connection), true);
        }
    }

    /// From now on the stream has so much time to get an allocation.
    pub(super) fn start_stream_patience(&mut self, now: Time, stream: StreamId) {
        self.stop_stream_patience(stream);
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        let deadline = now + self.config.stream_patience;
        state.deadline = Some(deadline);
        self.timers.set(deadline, Timer::Stream(stream));
    }

    /// The stream has what it is for.
    pub(super) fn stop_stream_patience(&mut self, stream: StreamId) {
        let deadline = self
            .streams
            .get_mut(&stream)
            .and_then(|state| state.deadline.take());
        if let Some(deadline) = deadline {
            self.timers.cancel(deadline, Timer::Stream(stream));
        }
    }

    /// A request has come: on a stream, its client is there.
    pub(super) fn renew_stream_patience(&mut self, now: Time, path: Path) {
        if let Path::Stream(stream) = path
            && self
                .streams
                .get(&stream)
                .is_some_and(|state| state.deadline.is_some())
        {
            self.start_stream_patience(now, stream);
        }
    }

    pub(super) fn stream_expired(&mut self, now: Time, stream: StreamId) {
        self.counters.streams_idle += 1;
        self.outbox.command(Command::CloseStream(stream));
        self.path_closed(now, Path::Stream(stream));
    }
}

enum Frame {
    Message(usize),
    Incomplete,
    Misframed,
}

/// The length of the message at the start, padding included.
fn frame_length(bytes: &[u8], has_allocation: bool) -> Frame {
    let Some(start) = bytes.first_chunk::<4>() else {
        return match bytes.first() {
            None | Some(0..=3 | 64..=127) => Frame::Incomplete,
            Some(_) => Frame::Misframed,
        };
    };
    let length = match start[0] {
        0..=3 => {
            // A cookie that is wrong need not be waited for.
            let cookie = bytes.get(4..8).unwrap_or_default();
            let Ok(Some(length)) = stream_message_length(bytes) else {
                return Frame::Misframed;
            };
            if !cookie.is_empty() && cookie != MAGIC_COOKIE.to_be_bytes() {
                return Frame::Misframed;
            }
            debug_assert!(length >= HEADER_LENGTH);
            length
        }
        // Before there is an allocation there are no channels.
        64..=127 if has_allocation => ChannelData::stream_length(*start),
        _ => return Frame::Misframed,
    };
    if !has_allocation && length > MAX_STRANGERS_MESSAGE {
        return Frame::Misframed;
    }
    if bytes.len() < length {
        return Frame::Incomplete;
    }
    Frame::Message(length)
}
