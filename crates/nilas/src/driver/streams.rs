//! The driver's streams: connections to TURN servers over TCP, TLS and DTLS, and to peers over TCP.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use nilas_ice::{
    Application, Handled, Input, RequestId, StreamError, StreamId, StreamTransmit, Time,
};
use nilas_net::stream::{Stream, StreamReader};

use super::Driver;
use crate::ready::{Place, Source};

/// The largest message of a stream: ChannelData with its padding, or a STUN message (RFC 8656 section 12.5).
const MAX_MESSAGE_BYTES: usize = 20 + (1 << 16);
/// Read at a time, besides what is left of a message.
const READ_BYTES: usize = 64 << 10;

/// A stream as the driver reads from it.
#[derive(Debug)]
pub(super) struct StreamSource {
    reader: StreamReader,
    turn: Place,
    /// The beginning of a message whose end has not come yet.
    tail: Vec<u8>,
}

/// What came on a stream, and whether there may be more.
enum Came {
    Bytes(usize),
    Nothing,
    End,
}

impl Driver {
    /// A stream has opened, or has not.
    pub(super) fn opened(&mut self, request: RequestId, result: Result<Stream, StreamError>) {
        let result = result.and_then(|stream| self.add_stream(stream));
        self.input(Input::StreamOpened { request, result });
    }

    /// Reads from a stream from now on, and lets it be written to.
    pub(super) fn add_stream(&mut self, stream: Stream) -> Result<StreamId, StreamError> {
        let id = StreamId(self.next_stream);
        // Each number is used once, as for sockets.
        self.next_stream = self.next_stream.checked_add(1).ok_or(StreamError::Other)?;
        let (reader, writer) = stream.into_split();
        let turn = Place::new(Source::Stream(id), &self.ready);
        // The first look registers for more.
        turn.enqueue();
        let tail = Vec::new();
        self.sockets.insert_stream(id, Arc::new(writer));
        let source = StreamSource { reader, turn, tail };
        self.streams.insert(id, source);
        Ok(id)
    }

    /// Reads from a stream once, and gives the engine what it takes of that.
    pub(super) fn read_stream(&mut self, now: Time, id: StreamId) {
        let Some(source) = self.streams.get_mut(&id) else {
            return;
        };
        source.turn.begin();
        let buffer = self
            .stream_buffer
            .get_or_insert_with(|| vec![0; MAX_MESSAGE_BYTES + READ_BYTES].into_boxed_slice());
        let waiting = source.tail.len();
        buffer[..waiting].copy_from_slice(&source.tail);
        let came = source
            .reader
            .poll_read(&mut source.turn.context(), &mut buffer[waiting..]);
        let came = match came {
            Poll::Pending => Came::Nothing,
            Poll::Ready(Ok(0) | Err(_)) => Came::End,
            Poll::Ready(Ok(count)) => Came::Bytes(waiting + count),
        };
        match came {
            Came::Nothing => {}
            Came::End => self.lose_stream(id),
            Came::Bytes(end) => {
                let datagram = source.reader.is_datagrams();
                // There may be more, which has its turn after the others.
                source.turn.enqueue();
                let mut taken = 0;
                loop {
                    let bytes = &buffer[taken..end];
                    let (count, application) = match self
                        .engine
                        .handle(now, Input::StreamBytes { stream: id, bytes })
                    {
                        Handled::Stream { taken, application } => (taken, application),
                        // The engine does not know the stream, or not any more.
                        _ => (bytes.len(), None),
                    };
                    if let Some(Application { agent, range, .. }) = application {
                        let data = taken + range.start..taken + range.end;
                        // A stream has lost the mark.
                        let data = (data, None);
                        self.staged.stage(agent, data, &self.agents, buffer);
                    }
                    taken += count.min(bytes.len());
                    // A datagram is one message, and what is left of it no beginning of another.
                    if count == 0 || datagram || taken == end {
                        break;
                    }
                }
                self.staged.deliver(&self.agents, buffer);
                if datagram {
                    return;
                }
                source.tail.clear();
                source.tail.extend_from_slice(&buffer[taken..end]);
                // No message is that long: what comes is not TURN.
                if source.tail.len() > MAX_MESSAGE_BYTES {
                    self.lose_stream(id);
                }
            }
        }
    }

    /// Writes a message of the engine to a stream, whole or not at all.
    pub(super) fn write_stream(&mut self, transmit: StreamTransmit) {
        let Some(stream) = self.sockets.find_stream(transmit.stream).upgrade() else {
            return;
        };
        match stream.try_write_message(&self.transmit[..transmit.size]) {
            Ok(()) => {}
            // A full stream drops what it cannot take, which comes again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose_stream(transmit.stream),
        }
    }

    /// The engine does not need a stream any more.
    pub(super) fn close_stream(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.sockets.remove_stream(id);
    }

    /// A stream has come to its end without the engine's will.
    fn lose_stream(&mut self, id: StreamId) {
        self.close_stream(id);
        self.input(Input::StreamClosed { stream: id });
    }
}
