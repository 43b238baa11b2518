//! TCP sockets for whoever writes the world, and the world's side of all connections.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use nilas_ice::{BindError, Time};

use super::{End, Happened, Owner, Stack};
use crate::packet::{Flow, Packet};
use crate::trace::Fate;
use crate::world::{Happening, NodeId, NodeKind, World};

/// Somebody who listens for TCP connections on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct TcpListener {
    /// The node.
    pub node: NodeId,
    /// The address there, before any NAT.
    pub address: SocketAddr,
}

/// One end of a TCP connection that belongs to whoever wrote the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct TcpStream {
    /// The node.
    pub node: NodeId,
    id: u32,
}

/// What the application knows of its connections.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Connections that listeners accepted and nobody asked for yet.
    waiting: Vec<(SocketAddr, u32)>,
    ready_at: BTreeMap<u32, Time>,
    ended: BTreeMap<u32, (Time, End)>,
    received: BTreeMap<u32, Vec<u8>>,
}

impl Accepted {
    pub(super) const fn new() -> Self {
        Self {
            waiting: Vec::new(),
            ready_at: BTreeMap::new(),
            ended: BTreeMap::new(),
            received: BTreeMap::new(),
        }
    }
}

impl World {
    /// Listens for TCP connections on a node; `secure` for those with a handshake like TLS's.
    ///
    /// # Errors
    /// The node does not have the address, or its port is taken.
    pub fn listen_tcp(
        &mut self,
        node: NodeId,
        address: SocketAddr,
        secure: bool,
    ) -> Result<TcpListener, BindError> {
        self.check_own(node, address)?;
        let stack = &mut self.node_mut(node).tcp;
        match stack.listen(address, Owner::Application, secure) {
            true => Ok(TcpListener { node, address }),
            false => Err(BindError::AddressInUse),
        }
    }

    /// Opens a TCP connection from an address of a node, port 0 is any; `secure` for one with a handshake like
    /// TLS's. Whether it succeeds, time tells: see [`tcp_ready_at`](Self::tcp_ready_at) and
    /// [`tcp_end`](Self::tcp_end).
    ///
    /// # Errors
    /// The node does not have the address, or no port is left.
    pub fn connect_tcp(
        &mut self,
        node: NodeId,
        local: SocketAddr,
        remote: SocketAddr,
        secure: bool,
    ) -> Result<TcpStream, BindError> {
        self.check_own(node, local)?;
        let now = self.now();
        let stack = &mut self.node_mut(node).tcp;
        let id = stack
            .connect(now, local, remote, Owner::Application, secure)
            .ok_or(BindError::AddressInUse)?;
        self.settle_tcp(node);
        Ok(TcpStream { node, id })
    }

    /// The connections that a listener has accepted since the last call.
    pub fn accept_tcp(&mut self, listener: TcpListener) -> Vec<TcpStream> {
        let waiting = &mut self.node_mut(listener.node).tcp.application.waiting;
        let accepted: Vec<_> = waiting
            .extract_if(.., |(at, _)| *at == listener.address)
            .collect();
        accepted
            .into_iter()
            .map(|(_, id)| TcpStream {
                node: listener.node,
                id,
            })
            .collect()
    }

    /// Writes to a connection: all of the bytes, or none if it is not open or its buffer of 256 KiB has no room.
    pub fn send_tcp(&mut self, stream: TcpStream, bytes: &[u8]) -> bool {
        let now = self.now();
        let taken = self.node_mut(stream.node).tcp.write(now, stream.id, bytes);
        self.settle_tcp(stream.node);
        taken
    }

    /// What has come on a connection and was not taken yet.
    pub fn take_tcp(&mut self, stream: TcpStream) -> Vec<u8> {
        let received = &mut self.node_mut(stream.node).tcp.application.received;
        received.remove(&stream.id).unwrap_or_default()
    }

    /// Closes a connection, after what was written has left.
    pub fn close_tcp(&mut self, stream: TcpStream) {
        let now = self.now();
        self.node_mut(stream.node).tcp.close(now, stream.id);
        self.settle_tcp(stream.node);
    }

    /// Lets a node forget a connection without a word to the other side, as one that was restarted does.
    pub fn forget_tcp(&mut self, stream: TcpStream) {
        self.node_mut(stream.node).tcp.remove(stream.id);
    }

    /// When a connection was open and its handshake over.
    pub fn tcp_ready_at(&self, stream: TcpStream) -> Option<Time> {
        let application = &self.node(stream.node).tcp.application;
        application.ready_at.get(&stream.id).copied()
    }

    /// When and why a connection ended, unless it was this end that gave it up.
    pub fn tcp_end(&self, stream: TcpStream) -> Option<(Time, End)> {
        let application = &self.node(stream.node).tcp.application;
        application.ended.get(&stream.id).copied()
    }

    /// A segment has reached a node.
    pub(crate) fn reach_tcp(&mut self, node: NodeId, packet: &Packet) {
        let Flow::Tcp(segment) = packet.flow else {
            unreachable!("only TCP's packets come here");
        };
        let now = self.now();
        let (source, destination) = (packet.source, packet.destination);
        let fate = Fate::Delivered {
            at: now,
            node,
            source,
        };
        self.trace.settle(packet.number, Some(node), fate);
        let stack = &mut self.node_mut(node).tcp;
        stack.handle(now, destination, source, segment, &packet.payload);
        self.settle_tcp(node);
    }

    pub(crate) fn wake_tcp(&mut self, node: NodeId) {
        let now = self.now();
        let stack = &mut self.node_mut(node).tcp;
        // An older wake-up, which a later deadline has replaced, is nothing.
        if stack.wake == Some(now) {
            stack.wake = None;
            stack.fire(now);
            self.settle_tcp(node);
        }
    }

    /// Sends what the connections of a node want sent, and tells their owners what happened.
    pub(crate) fn settle_tcp(&mut self, node: NodeId) {
        let now = self.now();
        loop {
            let stack = &mut self.node_mut(node).tcp;
            if let Some((local, remote, segment, payload)) = stack.next_outgoing() {
                self.send_packet(node, Flow::Tcp(segment), local, remote, &payload);
            } else if let Some((id, owner, happened)) = stack.next_happened() {
                match owner {
                    Owner::Application => stack.tell_application(now, id, happened),
                    Owner::Engine => self.engine_stream(node, id, happened),
                    Owner::Server => match self.node(node).kind {
                        NodeKind::StunServer(_) => self.stun_stream(node, id, happened),
                        _ => self.turn_stream(node, id, happened),
                    },
                }
            } else {
                let deadline = stack.deadline().map(|at| at.max(now));
                if stack.wake != deadline {
                    stack.wake = deadline;
                    if let Some(at) = deadline {
                        self.queue.plan(at, Happening::TcpTimer { node });
                    }
                }
                return;
            }
        }
    }

    fn check_own(&self, node: NodeId, address: SocketAddr) -> Result<(), BindError> {
        if self.addresses_of(node).contains(&address.ip()) {
            Ok(())
        } else {
            Err(BindError::AddressNotAvailable)
        }
    }
}

impl Stack {
    fn tell_application(&mut self, now: Time, id: u32, happened: Happened) {
        let bytes = self.take(id);
        if !bytes.is_empty() {
            let received = self.application.received.entry(id).or_default();
            received.extend(bytes);
        }
        match happened {
            Happened::Ready => {
                self.application.ready_at.insert(id, now);
                if let Some(connection) = self.connection(id)
                    && !connection.opened_here
                {
                    let at = connection.local;
                    self.application.waiting.push((at, id));
                }
            }
            Happened::Bytes => {}
            Happened::Ended(end) => {
                self.application.ended.insert(id, (now, end));
            }
        }
    }
}
