//! What leaves and what arrives by way of a relay (RFC 8656 sections 11 and 12).

use core::net::SocketAddr;
use core::ops::Range;

use nilas_stun::TransactionId;
use nilas_turn::Time;
use nilas_turn::client::{Framing, MAX_HEAD, Permission, Received};

use super::Route;
use crate::agent::Agent;
use crate::config::TurnTransport;
use crate::ids::SocketId;
use crate::io::StreamTransport;
use crate::path::{Departure, Via};
use crate::shared::Shared;

/// What a server's datagram or message turned out to be.
#[derive(Debug)]
pub(crate) enum Unwrapped {
    /// It came from a peer to this relayed address.
    Peer {
        socket: SocketId,
        peer: SocketAddr,
        range: Range<usize>,
    },
    /// It was the server's own.
    Consumed,
    /// It is no message of TURN.
    NotOurs,
}

impl Agent {
    /// When an allocation has something to send.
    pub(in crate::agent) fn relay_deadline(&self) -> Option<Time> {
        self.turn.as_ref()?.deadline()
    }

    /// Sends what is due to a server. It is to be called in a pacing slot.
    pub(in crate::agent) fn fire_relay(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        for index in 0..self.turn.as_ref()?.allocations.len() {
            let allocation = &mut self.relaying_mut().allocations[index];
            match allocation.route {
                Route::Broken { retry_at } if retry_at <= now => {
                    self.open_stream(shared, index, None);
                    continue;
                }
                Route::Datagram { .. } | Route::Stream(_) => {}
                _ => continue,
            }
            if allocation.client.deadline().is_none_or(|at| at > now) {
                continue;
            }
            let size = allocation.client.poll(now, buffer);
            let via = self.via(index);
            self.settle_relay(shared, now, index);
            if let (Some(size), Some(via)) = (size, via) {
                return Some(Departure { via, size });
            }
        }
        None
    }

    pub(in crate::agent) fn via(&self, index: usize) -> Option<Via> {
        match self.relaying().allocations[index].route {
            Route::Datagram { socket, server } => Some(Via::Socket {
                socket: self.sockets[usize::from(socket)].id,
                destination: server,
            }),
            Route::Stream(stream) => Some(Via::Stream(stream)),
            Route::Binding { .. } | Route::Opening(_) | Route::Broken { .. } | Route::Ended => None,
        }
    }

    /// How something gets from this socket to this remote: what carries it, and what is put around it.
    pub(in crate::agent) fn route(
        &self,
        now: Time,
        socket: u16,
        remote: SocketAddr,
    ) -> Option<(Via, Option<Framing>)> {
        let own = &self.sockets[usize::from(socket)];
        // RFC 6544 section 10.1.
        if own.tcp().is_some() {
            let via = self.connection_to(socket, remote)?;
            return Some((via, Some(Framing::Length)));
        }
        let Some(index) = own.relay else {
            let via = Via::Socket {
                socket: own.id,
                destination: remote,
            };
            return Some((via, None));
        };
        let index = usize::from(index);
        let client = &self.relaying().allocations[index].client;
        if !own.usable {
            return None;
        }
        Some((self.via(index)?, Some(client.framing(now, remote))))
    }

    /// As `route`, for a socket by its id.
    pub(crate) fn route_from(
        &self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
    ) -> Option<(Via, Option<Framing>)> {
        self.route(now, self.socket_index(socket)?, remote)
    }

    /// Whether what comes for an allocation comes as datagrams.
    pub(crate) fn is_datagrams(&self, index: u16) -> bool {
        let turn = self.relaying();
        let server = turn.allocations[usize::from(index)].server;
        matches!(
            turn.servers[usize::from(server)].config.transport,
            TurnTransport::Udp | TurnTransport::Stream(StreamTransport::Dtls)
        )
    }

    /// Whether a check may be sent to this remote now: for a relayed pair, once its permission was asked
    /// for (RFC 8445 section 7.2.1). `None` if the server refuses it, or has lost the relayed address.
    pub(in crate::agent) fn may_check(
        &mut self,
        now: Time,
        socket: u16,
        remote: SocketAddr,
    ) -> Option<bool> {
        let own = &self.sockets[usize::from(socket)];
        let Some(index) = own.relay else {
            return Some(true);
        };
        // Nothing could leave by it, and the check would keep all others waiting.
        if !own.usable {
            return None;
        }
        let client = &mut self.relaying_mut().allocations[usize::from(index)].client;
        client
            .permit(now, remote)
            .then(|| client.permission_asked(now, remote))
    }

    /// Whether the server of a relayed base does not relay to this remote.
    pub(in crate::agent) fn is_refused(&self, socket: u16, remote: SocketAddr) -> bool {
        let relay = self
            .sockets
            .get(usize::from(socket))
            .and_then(|own| own.relay);
        let allocation = relay
            .zip(self.turn.as_ref())
            .and_then(|(relay, turn)| turn.allocations.get(usize::from(relay)));
        allocation.is_some_and(|allocation| {
            allocation.client.permission(Time::ZERO, remote) == Permission::Refused
        })
    }

    /// A pair that is relayed carries the data from now on: it gets a channel.
    pub(in crate::agent) fn bind_channel(&mut self, now: Time, socket: u16, remote: SocketAddr) {
        if let Some(index) = self.sockets[usize::from(socket)].relay {
            let allocation = &mut self.relaying_mut().allocations[usize::from(index)];
            allocation.client.bind(now, remote);
        }
    }

    /// Permissions of peers that no pair needs any more are not renewed.
    pub(in crate::agent) fn forget_peers(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let generations = [Some(&self.current), self.previous.as_deref()];
        for allocation in &mut turn.allocations {
            let bases = &allocation.bases;
            allocation.client.retain_peers(|peer| {
                generations.into_iter().flatten().any(|generation| {
                    generation.pairs.iter().any(|(_, pair)| {
                        bases.contains(&pair.socket) && generation.remote_address(pair) == peer
                    })
                })
            });
        }
    }

    /// A datagram or message of the server of an allocation.
    pub(crate) fn unwrap(
        &mut self,
        shared: &mut Shared,
        now: Time,
        index: u16,
        bytes: &[u8],
    ) -> Unwrapped {
        let index = usize::from(index);
        let received = self.relaying_mut().allocations[index]
            .client
            .handle(now, bytes);
        match received {
            Received::Data { peer, range } => {
                let base = self.relaying().allocations[index]
                    .bases
                    .iter()
                    .find(|base| {
                        self.sockets[usize::from(**base)].address.is_ipv4() == peer.is_ipv4()
                    });
                match base {
                    Some(base) => Unwrapped::Peer {
                        socket: self.sockets[usize::from(*base)].id,
                        peer,
                        range,
                    },
                    None => Unwrapped::Consumed,
                }
            }
            Received::Consumed => {
                self.settle_relay(shared, now, index);
                Unwrapped::Consumed
            }
            Received::NotOurs => Unwrapped::NotOurs,
        }
    }
}

/// Puts a relay's framing around the `size` bytes that stand in `buffer` behind room for its head. Gives
/// the length of the whole.
pub(crate) fn enclose(
    framing: Option<Framing>,
    id: TransactionId,
    buffer: &mut [u8],
    size: usize,
) -> Option<usize> {
    let Some(framing) = framing else {
        return Some(size);
    };
    let mut head = [0; MAX_HEAD];
    let (before, after) = framing.write(&mut head, id, size)?;
    buffer
        .get_mut(..before)?
        .copy_from_slice(&head[MAX_HEAD - before..]);
    buffer
        .get_mut(before + size..before + size + after)?
        .fill(0);
    Some(before + size + after)
}

/// An indication's id, made of that of the message in it: as random, and another.
pub(crate) fn indication_id(inner: TransactionId) -> TransactionId {
    TransactionId::new(inner.as_bytes().map(|byte| !byte))
}

/// Bytes in front of what is enclosed.
pub(crate) const fn head_length(framing: Option<Framing>) -> usize {
    match framing {
        Some(framing) => framing.head_length(),
        None => 0,
    }
}
