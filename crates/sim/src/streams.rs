//! The streams of a host's engine: connections to TURN servers over TCP or TLS, and to peers over TCP.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use nilas_ice::{
    BindError, Handled, Input, RequestId, ResolveError, SocketId, StreamError, StreamId,
    StreamTransport,
};

use crate::tcp::{End, Happened, Owner};
use crate::world::{Happening, NodeId, World};

/// A connection that is not open within this time is given up: the real driver has five seconds to connect and five
/// for the handshake.
const DEADLINE: Duration = Duration::from_secs(10);
/// RFC 8305 section 5: after this time without an answer the next address is tried beside the last.
const STAGGER: Duration = Duration::from_millis(250);
/// Before the second address, which is of the other family where there are two.
const FIRST_STAGGER: Duration = Duration::from_millis(20);

/// The streams of an engine.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    opening: BTreeMap<RequestId, Opening>,
    /// What of each open stream the engine has not taken yet.
    open: BTreeMap<StreamId, Vec<u8>>,
    /// Where the engine listens.
    listeners: BTreeMap<SocketAddr, SocketId>,
}

/// A connection that is being opened: to all addresses of its server, one after the other.
#[derive(Debug)]
struct Opening {
    secure: bool,
    waiting: VecDeque<SocketAddr>,
    attempts: Vec<u32>,
    error: StreamError,
}

impl World {
    /// Does what [`nilas_ice::Command::OpenStream`] says.
    pub(crate) fn open_stream(
        &mut self,
        node: NodeId,
        request: RequestId,
        transport: StreamTransport,
        addresses: Result<Vec<SocketAddr>, ResolveError>,
    ) {
        let refused = match (transport, &addresses) {
            // There is no DTLS in this network.
            (StreamTransport::Dtls, _) => Some(StreamError::Other),
            (_, Err(_)) => Some(StreamError::Unresolved),
            _ => None,
        };
        let (None, Ok(addresses)) = (refused, addresses) else {
            let error = refused.unwrap_or(StreamError::Other);
            return self.answer_stream(node, request, Err(error));
        };
        let opening = Opening {
            secure: transport == StreamTransport::Tls,
            waiting: addresses.into(),
            attempts: Vec::new(),
            error: StreamError::Refused,
        };
        self.host_mut(node).streams.opening.insert(request, opening);
        let at = self.now() + DEADLINE;
        self.queue
            .plan(at, Happening::StreamDeadline { node, request });
        self.try_next_address(node, request);
    }

    /// Does what [`nilas_ice::Command::Listen`] says.
    pub(crate) fn listen_for_engine(
        &mut self,
        node: NodeId,
        address: SocketAddr,
    ) -> Result<(SocketId, SocketAddr), BindError> {
        if !self.addresses_of(node).contains(&address.ip()) {
            return Err(BindError::AddressNotAvailable);
        }
        let stack = &mut self.node_mut(node).tcp;
        let at = stack.listen_for_engine(address);
        let at = at.ok_or(BindError::AddressInUse)?;
        let host = self.host_mut(node);
        let socket = host.next_socket();
        host.streams.listeners.insert(at, socket);
        Ok((socket, at))
    }

    /// Closes a socket of the engine that listens; false if it is none.
    pub(crate) fn stop_listening(&mut self, node: NodeId, socket: SocketId) -> bool {
        let listeners = &mut self.host_mut(node).streams.listeners;
        let found = listeners.iter().find(|(_, known)| **known == socket);
        let Some(at) = found.map(|(at, _)| *at) else {
            return false;
        };
        listeners.remove(&at);
        self.node_mut(node).tcp.stop_listening(at);
        true
    }

    /// Does what [`nilas_ice::Command::Connect`] says.
    pub(crate) fn connect_stream(
        &mut self,
        node: NodeId,
        request: RequestId,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let now = self.now();
        let is_own = self.addresses_of(node).contains(&local.ip());
        let stack = &mut self.node_mut(node).tcp;
        let connection = is_own
            .then(|| stack.connect(now, local, remote, Owner::Engine, false))
            .flatten();
        let opening = Opening {
            secure: false,
            waiting: VecDeque::new(),
            attempts: connection.into_iter().collect(),
            error: StreamError::Refused,
        };
        self.host_mut(node).streams.opening.insert(request, opening);
        if connection.is_none() {
            // There is no other address: this ends in an answer, when the engine is at rest.
            let next = Happening::NextAddress { node, request };
            return self.queue.plan(now, next);
        }
        let deadline = Happening::StreamDeadline { node, request };
        self.queue.plan(now + DEADLINE, deadline);
        self.settle_tcp(node);
    }

    /// Tries one more address of a server, if there is one.
    pub(crate) fn try_next_address(&mut self, node: NodeId, request: RequestId) {
        loop {
            let own = self.addresses_of(node);
            let now = self.now();
            let Some(opening) = self.host_mut(node).streams.opening.get_mut(&request) else {
                return;
            };
            let Some(remote) = opening.waiting.pop_front() else {
                break;
            };
            let secure = opening.secure;
            let local = own.iter().find(|ip| is_source_for(**ip, remote.ip()));
            let stack = &mut self.node_mut(node).tcp;
            let connection = local.and_then(|local| {
                let local = SocketAddr::new(*local, 0);
                stack.connect(now, local, remote, Owner::Engine, secure)
            });
            // Without an address of the family there is no route: the next one's turn, at once.
            if let Some(connection) = connection {
                let mut stagger = STAGGER;
                if let Some(opening) = self.host_mut(node).streams.opening.get_mut(&request) {
                    if opening.attempts.is_empty() {
                        stagger = FIRST_STAGGER;
                    }
                    opening.attempts.push(connection);
                }
                let next = Happening::NextAddress { node, request };
                self.queue.plan(now + stagger, next);
                return self.settle_tcp(node);
            }
        }
        self.give_up_if_nothing_is_left(node, request);
    }

    /// A connection is not open in time.
    pub(crate) fn stream_deadline(&mut self, node: NodeId, request: RequestId) {
        let now = self.now();
        let Some(opening) = self.host_mut(node).streams.opening.remove(&request) else {
            return;
        };
        for connection in opening.attempts {
            self.node_mut(node).tcp.close(now, connection);
        }
        self.settle_tcp(node);
        self.answer_stream(node, request, Err(StreamError::TimedOut));
    }

    /// Something happened on a connection of the engine.
    pub(crate) fn engine_stream(&mut self, node: NodeId, connection: u32, happened: Happened) {
        let stream = StreamId(connection);
        // Bytes may have come with what made it ready.
        if happened == Happened::Ready {
            self.connection_is_ready(node, connection);
        }
        let bytes = self.node_mut(node).tcp.take(connection);
        if let Some(pending) = self.host_mut(node).streams.open.get_mut(&stream) {
            pending.extend(bytes);
            self.give_stream_to_engine(node, stream);
        }
        match happened {
            Happened::Ready | Happened::Bytes => {}
            Happened::Ended(end) => {
                if self.host_mut(node).streams.open.remove(&stream).is_some() {
                    let now = self.now();
                    let input = Input::StreamClosed { stream };
                    let _ = self.host_mut(node).engine.handle(now, input);
                } else {
                    self.attempt_failed(node, connection, end);
                }
            }
        }
        self.settle(node);
    }

    /// Does what [`nilas_ice::Command::CloseStream`] says.
    pub(crate) fn close_stream(&mut self, node: NodeId, stream: StreamId) {
        let now = self.now();
        self.host_mut(node).streams.open.remove(&stream);
        self.node_mut(node).tcp.close(now, stream.0);
        self.settle_tcp(node);
    }

    /// Writes a message to a stream. What a full stream cannot take whole is dropped, as a full socket drops a
    /// datagram.
    pub(crate) fn write_stream(&mut self, node: NodeId, stream: StreamId, message: &[u8]) {
        let now = self.now();
        self.node_mut(node).tcp.write(now, stream.0, message);
        self.settle_tcp(node);
    }

    fn connection_is_ready(&mut self, node: NodeId, connection: u32) {
        let known = self.node(node).tcp.connection(connection);
        let accepted = known.filter(|known| !known.opened_here);
        let Some((local, remote)) = accepted.map(|known| (known.local, known.remote)) else {
            return self.attempt_succeeded(node, connection);
        };
        let now = self.now();
        let host = self.host_mut(node);
        let Some(&socket) = host.streams.listeners.get(&local) else {
            return self.node_mut(node).tcp.close(now, connection);
        };
        let stream = StreamId(connection);
        host.streams.open.insert(stream, Vec::new());
        let input = Input::StreamAccepted {
            socket,
            stream,
            remote,
        };
        let _ = host.engine.handle(now, input);
        self.settle(node);
    }

    fn attempt_succeeded(&mut self, node: NodeId, connection: u32) {
        let now = self.now();
        let streams = &mut self.host_mut(node).streams;
        let mut openings = streams.opening.iter();
        let found = openings.find(|(_, opening)| opening.attempts.contains(&connection));
        let Some(request) = found.map(|(request, _)| *request) else {
            // Another was faster at this very moment.
            return self.node_mut(node).tcp.close(now, connection);
        };
        let others = streams.opening.remove(&request);
        streams.open.insert(StreamId(connection), Vec::new());
        for other in others.into_iter().flat_map(|opening| opening.attempts) {
            if other != connection {
                self.node_mut(node).tcp.close(now, other);
            }
        }
        self.answer_stream(node, request, Ok(StreamId(connection)));
    }

    fn attempt_failed(&mut self, node: NodeId, connection: u32, end: End) {
        let openings = self.host_mut(node).streams.opening.iter_mut();
        let found = { openings }.find(|(_, opening)| opening.attempts.contains(&connection));
        let Some((request, opening)) = found else {
            return;
        };
        opening.attempts.retain(|attempt| *attempt != connection);
        opening.error = match end {
            End::TimedOut => StreamError::TimedOut,
            End::Refused => StreamError::Refused,
            End::Handshake | End::Reset | End::Finished => StreamError::Handshake,
        };
        let request = *request;
        self.try_next_address(node, request);
    }

    fn give_up_if_nothing_is_left(&mut self, node: NodeId, request: RequestId) {
        let openings = &mut self.host_mut(node).streams.opening;
        let is_left = openings
            .get(&request)
            .is_some_and(|opening| !opening.attempts.is_empty());
        if !is_left && let Some(opening) = openings.remove(&request) {
            self.answer_stream(node, request, Err(opening.error));
        }
    }

    fn answer_stream(
        &mut self,
        node: NodeId,
        request: RequestId,
        result: Result<StreamId, StreamError>,
    ) {
        let now = self.now();
        let input = Input::StreamOpened { request, result };
        let _ = self.host_mut(node).engine.handle(now, input);
        self.settle(node);
    }

    /// Gives the engine what of a stream it has not taken yet, message by message.
    fn give_stream_to_engine(&mut self, node: NodeId, stream: StreamId) {
        let now = self.now();
        let host = self.host_mut(node);
        let Some(pending) = host.streams.open.get_mut(&stream) else {
            return;
        };
        let bytes = core::mem::take(pending);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let input = Input::StreamBytes {
                stream,
                bytes: rest,
            };
            let Handled::Stream { taken, application } = host.engine.handle(now, input) else {
                break;
            };
            if let Some(application) = application
                && let Some(record) = host.records.get_mut(&application.agent)
            {
                let data = rest[application.range].to_vec();
                record.received.push((now, data));
            }
            if taken == 0 {
                break;
            }
            rest = &rest[taken..];
        }
        if let Some(pending) = host.streams.open.get_mut(&stream) {
            pending.extend_from_slice(rest);
        }
    }
}

/// Whether a packet to `remote` may leave from this address.
const fn is_source_for(own: IpAddr, remote: IpAddr) -> bool {
    own.is_ipv4() == remote.is_ipv4()
}
