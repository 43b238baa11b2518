//! Data between clients and peers (RFC 8656 sections 11 and 12): no payload is copied, nothing is allocated.

use core::net::SocketAddr;
use core::ops::Range;

use nilas_stun::{AttributeType, Class, Icmp, Message, MessageBuilder, Method};

use super::Server;
use super::answer::Indication;
use super::io::{Handled, Head, Path, RelayId, RelayProtocol};
use super::quota::Bandwidth;
use crate::arena::Key;
use crate::channel_data::ChannelData;
use crate::time::Time;

impl Server {
    /// ChannelData from a client (RFC 8656 section 12.6).
    pub(super) fn channel_data(&mut self, now: Time, path: Path, bytes: &[u8]) -> Handled {
        let Some(message) = ChannelData::parse(bytes) else {
            self.counters.malformed += 1;
            return Handled::Done;
        };
        let Some((key, relays)) = self.sender(now, path) else {
            return Handled::Done;
        };
        for relay in relays.into_iter().flatten() {
            let Some(state) = self.relays.get(relay) else {
                continue;
            };
            if let Some(peer) = state.peers.peer_of(message.number, now) {
                return self.relay_to_peer(now, key, relay, peer, message.data, false);
            }
        }
        self.counters.no_channel += 1;
        Handled::Done
    }

    /// A Send indication from a client (RFC 8656 section 11.2).
    pub(super) fn send(&mut self, now: Time, path: Path, message: Message<'_>) -> Handled {
        let peer = message.xor_peer_address().ok().flatten();
        let (Some(peer), Some(data)) = (peer, message.data()) else {
            self.counters.malformed += 1;
            return Handled::Done;
        };
        if self.has_unknown_attributes(message) {
            self.counters.malformed += 1;
            return Handled::Done;
        }
        let Some((key, _)) = self.sender(now, path) else {
            return Handled::Done;
        };
        let Ok(relay) = self.relay_towards(key, peer.ip()) else {
            self.counters.no_permission += 1;
            return Handled::Done;
        };
        let permitted = self.relays.get(relay).is_some_and(|state| {
            // RFC 6062 section 3: a TCP allocation sends no datagrams.
            state.protocol == RelayProtocol::Udp && state.peers.permits(peer.ip(), now)
        });
        if !permitted {
            self.counters.no_permission += 1;
            return Handled::Done;
        }
        // RFC 8656 section 11.2: what the rule does not allow is silently discarded. The permission was for an
        // address; this is about the port, too.
        if self.config.peer_rule.check(peer).is_err() {
            self.counters.peers_forbidden += 1;
            return Handled::Done;
        }
        // The value lies inside the message.
        let start = data.as_ptr() as usize - message.bytes().as_ptr() as usize;
        let payload = start..start + data.len();
        // RFC 8656 section 13: ignored where either side is IPv6. Section 15: not so on data of a stream.
        let heeded = match path {
            Path::Datagram { client, .. } => {
                client.ip().to_canonical().is_ipv4() && peer.ip().to_canonical().is_ipv4()
            }
            Path::Stream(_) => true,
        };
        let dont_fragment = heeded && message.dont_fragment();
        self.relay_to_peer(now, key, relay, peer, payload, dont_fragment)
    }

    /// A datagram from a peer (RFC 8656 section 11.3).
    pub(super) fn peer_datagram(
        &mut self,
        now: Time,
        relay: RelayId,
        peer: SocketAddr,
        length: usize,
    ) -> Handled {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.relay_to_client(now, relay.0, peer, 0..length)
    }

    /// An ICMP error about a datagram to a peer (RFC 8656 section 11.5).
    pub(super) fn peer_icmp(&mut self, now: Time, relay: RelayId, peer: SocketAddr, icmp: Icmp) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // RFC 8656 section 11.5: unreachable or expired; and of ICMPv6, too big.
        let relayed = if peer.is_ipv4() {
            matches!(icmp.icmp_type, 3 | 11)
        } else {
            matches!(icmp.icmp_type, 1..=3)
        };
        let Some(state) = self.relays.get(relay.0).filter(|_| relayed) else {
            self.counters.unexpected += 1;
            return;
        };
        if !state.peers.permits(peer.ip(), now) {
            self.counters.no_permission += 1;
            return;
        }
        let path = self
            .allocations
            .get(state.allocation)
            .and_then(|allocation| allocation.path);
        if let Some(path) = path {
            let id = self.transaction_id();
            self.outbox.indicate(
                &mut self.counters,
                path,
                id,
                Indication::Icmp { peer, icmp },
            );
        }
    }

    /// The allocation that data on a path belongs to.
    fn sender(&mut self, now: Time, path: Path) -> Option<(Key, [Option<Key>; 2])> {
        let found = self
            .allocation_at(path)
            .and_then(|key| Some((key, self.allocations.get(key)?)));
        let Some((key, allocation)) = found else {
            // RFC 8656 section 5: silently ignored.
            self.counters.no_allocation += 1;
            return None;
        };
        let relays = allocation.relays;
        if allocation.path != Some(path) {
            // RFC 8016 section 3.2.2: data on the new 5-tuple ends the old one.
            self.complete_move(now, key);
        }
        Some((key, relays))
    }

    fn relay_to_peer(
        &mut self,
        now: Time,
        key: Key,
        relay: Key,
        peer: SocketAddr,
        payload: Range<usize>,
        dont_fragment: bool,
    ) -> Handled {
        let limits = self.bandwidth();
        let Some(allocation) = self.allocations.get_mut(key) else {
            return Handled::Done;
        };
        // RFC 8656 section 5: data beyond the bandwidth quota is discarded.
        if allocation.charge.take(now, payload.len(), limits).is_err() {
            self.counters.over_bandwidth += 1;
            return Handled::Done;
        }
        allocation.traffic.packets_from_client += 1;
        allocation.traffic.bytes_from_client += payload.len() as u64;
        self.counters.packets_to_peers += 1;
        self.counters.bytes_to_peers += payload.len() as u64;
        if self.config.peer_rule.is_relay(peer.ip())
            && let Some(other) = self.relay_addresses.get(&peer).copied()
            && let Some(own) = self.relays.get(relay).and_then(|state| state.address)
        {
            // The peer is another client of this core: its datagram need not leave the process, and arrives also
            // where the network does not turn back what is sent to the server's own public address.
            return self.relay_to_client(now, other, own, payload);
        }
        Handled::ToPeer {
            relay: RelayId(relay),
            peer,
            payload,
            dont_fragment,
        }
    }

    fn relay_to_client(
        &mut self,
        now: Time,
        relay: Key,
        peer: SocketAddr,
        payload: Range<usize>,
    ) -> Handled {
        let Some(state) = self.relays.get(relay) else {
            self.counters.no_allocation += 1;
            return Handled::Done;
        };
        // RFC 8656 section 9: only the address counts; without a permission, silently discarded.
        if !state.peers.permits(peer.ip(), now) {
            self.counters.no_permission += 1;
            return Handled::Done;
        }
        let (key, channel) = (state.allocation, state.peers.channel_of(peer, now));
        let limits = self.bandwidth();
        let Some(allocation) = self.allocations.get_mut(key) else {
            return Handled::Done;
        };
        let Some(path) = allocation.path else {
            self.counters.no_allocation += 1;
            return Handled::Done;
        };
        if allocation.charge.take(now, payload.len(), limits).is_err() {
            self.counters.over_bandwidth += 1;
            return Handled::Done;
        }
        allocation.traffic.packets_from_peers += 1;
        allocation.traffic.bytes_from_peers += payload.len() as u64;
        let framed = match channel {
            // RFC 8656 section 12.5: a bound channel must be used.
            Some(number) => ChannelData::header(number, payload.len()).map(|header| {
                // RFC 8656 section 12.5: padded on a stream.
                let tail = match path {
                    Path::Stream(_) => padding(payload.len()),
                    Path::Datagram { .. } => 0,
                };
                (Head::new(&header), tail)
            }),
            None => self
                .data_indication(peer, payload.len())
                .map(|head| (head, padding(payload.len()))),
        };
        let Some((head, tail)) = framed else {
            // More than any datagram holds.
            self.counters.malformed += 1;
            return Handled::Done;
        };
        self.counters.packets_to_clients += 1;
        self.counters.bytes_to_clients += payload.len() as u64;
        Handled::ToClient {
            path,
            head,
            payload,
            tail,
        }
    }

    /// What stands in front of the data in a Data indication (RFC 8656 section 11.3).
    fn data_indication(&mut self, peer: SocketAddr, length: usize) -> Option<Head> {
        let id = self.transaction_id();
        let mut bytes = [0; Head::MAX];
        let mut builder =
            MessageBuilder::new(&mut bytes, Class::Indication, Method::DATA, id).ok()?;
        builder.xor_peer_address(peer).ok()?;
        let end = builder.finish();
        // DATA is last; its value, which the caller has, follows the head.
        let size = end + 4;
        let whole = u16::try_from(size - 20 + length.next_multiple_of(4)).ok()?;
        bytes[2..4].copy_from_slice(&whole.to_be_bytes());
        bytes[end..end + 2].copy_from_slice(&AttributeType::DATA.0.to_be_bytes());
        bytes[end + 2..size].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        Some(Head::new(&bytes[..size]))
    }

    pub(super) fn bandwidth(&self) -> Bandwidth {
        Bandwidth {
            per_user: self.config.user_bandwidth,
            total: self.config.total_bandwidth,
        }
    }
}

/// Zeros behind data of this length.
const fn padding(length: usize) -> u8 {
    (length.wrapping_neg() % 4) as u8
}
