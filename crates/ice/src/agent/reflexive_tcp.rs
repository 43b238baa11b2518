//! What servers see of TCP candidates: server-reflexive ones (RFC 6544 section 5.2).
//!
//! A server is asked over a connection from the very port that accepts connections (appendix B), so that the mapping it
//! tells is that port's. A passive candidate is reached there where the NAT lets strangers in, and a simultaneous-open one
//! where both sides' SYNs open the way, as their checks do over UDP. An active candidate has no port, and the address of the
//! others of its interface; it makes no pair that its base does not make, and is told for peers whose relay has to know
//! where connections will come from.
//!
//! The servers asked are those of UDP, most of which answer at the same port of TCP, and TURN servers that are reached over
//! TCP. Nobody has promised that they answer, so one that does not is no error, and nothing but the end of gathering waits for
//! it, for a few seconds. The connection stays open, and the mapping with it, until ICE has concluded (sections 4.1
//! and 11.2); what a NAT forgets after that, nobody needs.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_stun::{Class, Message};
use nilas_turn::Time;

use super::generation::Origin;
use super::tcp::{Connection, ConnectionState, DISCARD};
use super::trickle::{plain, scoped};
use super::{Agent, Socket};
use crate::candidate::TcpType;
use crate::demux::StreamEnd;
use crate::event::State;
use crate::ids::{RequestId, StreamId};
use crate::io::{Command, StreamError};
use crate::path::Via;
use crate::shared::Shared;

/// How long a server may take to accept a connection, and then to answer: SYNs leave after nothing, one and three seconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(4_000);

impl Agent {
    /// Whether servers are asked what they see of a base.
    pub(super) fn asks_servers(&self, own: &Socket) -> bool {
        let has_port = match own.tcp() {
            Some(tcp_type) => tcp_type != TcpType::Active,
            None => own.is_udp_host(),
        };
        own.usable && has_port && self.is_base(own)
    }

    /// Whether a server can be asked over a connection now; otherwise one is being opened first.
    pub(super) fn reach_server(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: u16,
        server: SocketAddr,
    ) -> bool {
        let local = self.sockets[usize::from(socket)].address;
        let tcp = self.tcp.get_or_insert_default();
        let mut known = tcp.servers.iter();
        if let Some(known) = known.find(|known| known.leads(socket, server)) {
            return known.stream().is_some();
        }
        let request = shared.request(self.id);
        shared.command(Command::Connect {
            request,
            local,
            remote: scoped(server, local),
        });
        tcp.servers.push(Connection {
            socket,
            remote: plain(server),
            state: ConnectionState::Opening(request),
            since: now,
        });
        false
    }

    /// What carries a question to a server over TCP.
    pub(super) fn via_to_server(&self, socket: u16, server: SocketAddr) -> Option<Via> {
        let mut servers = self.server_connections();
        let known = servers.find(|known| known.leads(socket, server))?;
        known.stream().map(Via::Stream)
    }

    /// The answer to `Connect`; false if it was for no server, or that is not asked any more.
    pub(super) fn server_connected(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: RequestId,
        result: Result<StreamId, StreamError>,
    ) -> bool {
        let opening = ConnectionState::Opening(request);
        let mut servers = self.tcp.iter_mut().flat_map(|tcp| &mut tcp.servers);
        let Some(known) = servers.find(|known| known.state == opening) else {
            return false;
        };
        let (socket, server) = (known.socket, known.remote);
        match result {
            Ok(stream) => {
                (known.state, known.since) = (ConnectionState::Open(stream), now);
                let end = StreamEnd::Server;
                shared.demux.claim_stream(stream, self.id, end);
                self.ask_when_connected(now, socket, server);
            }
            Err(_) => self.give_up_server(shared, socket, server),
        }
        true
    }

    /// A message came from a server that was asked over TCP; false if it is no answer.
    pub(crate) fn server_answered(
        &mut self,
        shared: &mut Shared,
        now: Time,
        stream: StreamId,
        message: &Message<'_>,
    ) -> bool {
        let Some((socket, server)) = self.server_of(stream) else {
            return false;
        };
        let class = message.class();
        let is_answer = matches!(class, Class::SuccessResponse | Class::ErrorResponse)
            && self.has_transaction(message.transaction_id());
        if is_answer {
            let socket = self.sockets[usize::from(socket)].id;
            self.handle_response(shared, now, socket, server, message);
        }
        is_answer
    }

    /// The server has closed its connection. One that has answered is connected to again when the mapping is to be kept.
    pub(crate) fn server_connection_ended(&mut self, shared: &mut Shared, stream: StreamId) {
        if let Some((socket, server)) = self.server_of(stream) {
            shared.demux.release_stream(stream);
            self.forget_server_connection(socket, server);
            self.end_job_over(shared, socket, server);
        }
    }

    /// A server is not asked over TCP any more.
    pub(super) fn give_up_server(&mut self, shared: &mut Shared, socket: u16, server: SocketAddr) {
        if let Some(stream) = self.forget_server_connection(socket, server) {
            shared.demux.release_stream(stream);
            shared.command(Command::CloseStream(stream));
        }
        self.end_job_over(shared, socket, server);
    }

    fn forget_server_connection(&mut self, socket: u16, server: SocketAddr) -> Option<StreamId> {
        let servers = &mut self.tcp.as_mut()?.servers;
        let index = { servers.iter() }.position(|known| known.leads(socket, server))?;
        servers.remove(index).stream()
    }

    /// Gives up servers that do not answer, and closes what ICE has no use for any more.
    pub(super) fn fire_servers(&mut self, shared: &mut Shared, now: Time) {
        let over: Vec<_> = self
            .server_connections()
            .filter(|known| self.server_ends_at(known).is_some_and(|at| at <= now))
            .map(|known| (known.socket, known.remote))
            .collect();
        for (socket, server) in over {
            self.give_up_server(shared, socket, server);
        }
    }

    /// When `fire_servers` has something to do.
    pub(super) fn servers_deadline(&self) -> Option<Time> {
        let ends = self
            .server_connections()
            .filter_map(|known| self.server_ends_at(known));
        ends.min()
    }

    fn server_ends_at(&self, known: &Connection) -> Option<Time> {
        if known.stream().is_none() {
            return Some(known.since + PATIENCE);
        }
        let own = &self.sockets[usize::from(known.socket)];
        let looks_for_a_path = !self.current.concluded && self.state != State::Failed
            || self.current.abandoned
            || self.has_open_job(known.socket, known.remote);
        (!looks_for_a_path || !self.asks_servers(own)).then_some(known.since)
    }

    /// What a server sees of a port makes the active candidate of its interface one of the same address.
    pub(super) fn add_active_reflexive(
        &mut self,
        shared: &mut Shared,
        socket: u16,
        mapped: SocketAddr,
        told: (Origin, IpAddr),
    ) {
        let ip = self.sockets[usize::from(socket)].address.ip();
        let is_active = |own: &Socket| {
            own.tcp() == Some(TcpType::Active) && own.usable && own.address.ip() == ip
        };
        if let Some(active) = self.sockets.iter().position(is_active) {
            let address = SocketAddr::new(mapped.ip(), DISCARD);
            self.add_reflexive(shared, active as u16, address, told);
        }
    }

    /// The port and the server that a connection is between.
    fn server_of(&self, stream: StreamId) -> Option<(u16, SocketAddr)> {
        let mut servers = self.server_connections();
        let known = servers.find(|known| known.stream() == Some(stream))?;
        Some((known.socket, known.remote))
    }

    fn server_connections(&self) -> impl Iterator<Item = &Connection> {
        self.tcp.iter().flat_map(|tcp| &tcp.servers)
    }
}
