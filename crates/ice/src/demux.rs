//! Who owns a packet, in constant time.
//!
//! A request is found by the username fragment it names, a response by its transaction id, which
//! hides the agent's slot, and data by its socket and sender. Nothing here is ever iterated, so the
//! order of a hash map cannot reach an output.

use core::hash::{BuildHasher, Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;

use nilas_stun::TransactionId;
use siphasher::sip::SipHasher13;

use crate::ids::{AgentId, SocketId, StreamId};
use crate::source::Source;
use nilas_turn::Time;

/// Whose data a (socket, remote) carries, and how much came: the path of a packet of data ends here,
/// in one place of memory, however many agents there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) agent: AgentId,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) last: Time,
}

#[derive(Debug)]
pub(crate) struct Demux {
    keys: Keys,
    /// The agents' slots, by a keyed digest of the fragment: whoever is found compares the fragment itself.
    /// Entries are small, because with many agents those of the idle ones are read from far away.
    ufrags: HashMap<u32, u32, Keys>,
    remotes: HashMap<Remote, Route, Keys>,
    /// A bit for each slot: whether data came since the agent last asked.
    heard: Vec<u64>,
    /// TURN servers, by the 5-tuple.
    servers: HashMap<Remote, Allocation, Keys>,
    streams: HashMap<StreamId, StreamOwner, Keys>,
    /// Sockets that accept connections.
    listeners: HashMap<SocketId, AgentId, Keys>,
}

/// Whose allocation a 5-tuple is: an agent and the index among its allocations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) agent: AgentId,
    pub(crate) index: u16,
}

/// Whose a stream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamOwner {
    pub(crate) agent: AgentId,
    pub(crate) end: StreamEnd,
}

/// What is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The peer, or somebody who is yet to show that.
    Peer,
    /// The server of the allocation of this index.
    Relay(u16),
    /// A server that is asked what it sees of a TCP candidate.
    Server,
}

impl Demux {
    pub(crate) fn new(source: &mut Source) -> Self {
        let keys = Keys(source.next_u64(), source.next_u64());
        Self {
            keys,
            ufrags: HashMap::with_hasher(keys),
            remotes: HashMap::with_hasher(keys),
            heard: Vec::new(),
            servers: HashMap::with_hasher(keys),
            streams: HashMap::with_hasher(keys),
            listeners: HashMap::with_hasher(keys),
        }
    }

    /// Claims a username fragment for the agent in a slot; false if another has it, or, once in 2^32 times, one
    /// of the same digest.
    pub(crate) fn claim_ufrag(&mut self, ufrag: &str, slot: u32) -> bool {
        let digest = self.short_digest(ufrag);
        if self.ufrags.contains_key(&digest) {
            return false;
        }
        self.ufrags.insert(digest, slot);
        true
    }

    /// Gives a fragment that is claimed to the agent in another slot, of the same stream.
    pub(crate) fn assign_ufrag(&mut self, ufrag: &str, slot: u32) {
        self.ufrags.insert(self.short_digest(ufrag), slot);
    }

    pub(crate) fn release_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(&self.short_digest(ufrag));
    }

    /// Lets data from this remote in on this socket; false if another agent has it.
    pub(crate) fn claim_remote(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        agent: AgentId,
    ) -> bool {
        let words = agent.0.slot as usize / 64 + 1;
        if self.heard.len() < words {
            self.heard.resize(words, 0);
        }
        let fresh = Route {
            agent,
            packets: 0,
            bytes: 0,
            last: Time::ZERO,
        };
        self.remotes
            .entry(Remote::new(socket, remote))
            .or_insert(fresh)
            .agent
            == agent
    }

    pub(crate) fn release_remote(&mut self, socket: SocketId, remote: SocketAddr) -> Option<Route> {
        self.remotes.remove(&Remote::new(socket, remote))
    }

    /// Claims a 5-tuple for an allocation; false if another has it.
    pub(crate) fn claim_server(
        &mut self,
        socket: SocketId,
        server: SocketAddr,
        agent: AgentId,
        index: u16,
    ) -> bool {
        let key = Remote::new(socket, server);
        if self.servers.contains_key(&key) {
            return false;
        }
        self.servers.insert(key, Allocation { agent, index });
        true
    }

    pub(crate) fn release_server(&mut self, socket: SocketId, server: SocketAddr) {
        self.servers.remove(&Remote::new(socket, server));
    }

    pub(crate) fn by_server(&self, socket: SocketId, server: SocketAddr) -> Option<Allocation> {
        if self.servers.is_empty() {
            return None;
        }
        self.servers.get(&Remote::new(socket, server)).copied()
    }

    pub(crate) fn claim_stream(&mut self, stream: StreamId, agent: AgentId, end: StreamEnd) {
        self.streams.insert(stream, StreamOwner { agent, end });
    }

    pub(crate) fn release_stream(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    pub(crate) fn by_stream(&self, stream: StreamId) -> Option<StreamOwner> {
        self.streams.get(&stream).copied()
    }

    pub(crate) fn claim_listener(&mut self, socket: SocketId, agent: AgentId) {
        self.listeners.insert(socket, agent);
    }

    pub(crate) fn release_listener(&mut self, socket: SocketId) {
        self.listeners.remove(&socket);
    }

    pub(crate) fn by_listener(&self, socket: SocketId) -> Option<AgentId> {
        self.listeners.get(&socket).copied()
    }

    /// A fresh transaction id of this agent.
    ///
    /// 64 bits are random; the slot in the other 32 is masked by a keyed function of them. To whoever
    /// lacks the key all 96 look uniform, as RFC 8489 section 5 demands.
    pub(crate) fn transaction_id(&self, source: &mut Source, slot: u32) -> TransactionId {
        let random = source.next_u64();
        let mut id = [0; 12];
        id[..8].copy_from_slice(&random.to_be_bytes());
        id[8..].copy_from_slice(&(slot ^ self.mask(random)).to_be_bytes());
        TransactionId::new(id)
    }

    /// The slot of the agent that made this id, if an agent made it: the agent must know it, too.
    pub(crate) fn slot_of(&self, id: TransactionId) -> u32 {
        let [r @ .., a, b, c, d] = *id.as_bytes();
        u32::from_be_bytes([a, b, c, d]) ^ self.mask(u64::from_be_bytes(r))
    }

    /// The slot of the agent that has claimed this fragment, if one has.
    pub(crate) fn by_ufrag(&self, ufrag: &str) -> Option<u32> {
        self.ufrags.get(&self.short_digest(ufrag)).copied()
    }

    pub(crate) fn by_remote(&self, socket: SocketId, remote: SocketAddr) -> Option<&Route> {
        self.remotes.get(&Remote::new(socket, remote))
    }

    /// Data came from a remote: whose it is.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        bytes: usize,
    ) -> Option<AgentId> {
        let route = self.remotes.get_mut(&Remote::new(socket, remote))?;
        route.packets += 1;
        route.bytes += bytes as u64;
        route.last = now;
        let slot = route.agent.0.slot;
        if let Some(word) = self.heard.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
        Some(route.agent)
    }

    /// Whether data came for the agent in a slot since this was last asked.
    pub(crate) fn take_heard(&mut self, slot: u32) -> bool {
        let Some(word) = self.heard.get_mut(slot as usize / 64) else {
            return false;
        };
        let bit = 1 << (slot % 64);
        let heard = *word & bit != 0;
        *word &= !bit;
        heard
    }

    /// A keyed digest, for what need only be told apart.
    pub(crate) fn digest(&self, bytes: &[u8]) -> u64 {
        let Keys(k0, k1) = self.keys;
        SipHasher13::new_with_keys(k0, k1 ^ u64::MAX).hash(bytes)
    }

    fn short_digest(&self, ufrag: &str) -> u32 {
        self.digest(ufrag.as_bytes()) as u32
    }

    pub(crate) fn digest_of(&self, address: SocketAddr) -> u64 {
        self.keys.hash_one(address)
    }

    fn mask(&self, random: u64) -> u32 {
        let Keys(k0, k1) = self.keys;
        SipHasher13::new_with_keys(k0 ^ u64::MAX, k1).hash(&random.to_ne_bytes()) as u32
    }
}

/// A socket and who sends to it, in 22 bytes: this is hashed and compared for every packet.
///
/// A socket is of one family, so an IPv4 address may stand as the IPv6 address it maps to; and it is
/// bound to one interface, which is the scope of a link-local sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remote([u8; 22]);

impl Remote {
    fn new(socket: SocketId, remote: SocketAddr) -> Self {
        let ip = match remote.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut bytes = [0; 22];
        bytes[..16].copy_from_slice(&ip);
        bytes[16..18].copy_from_slice(&remote.port().to_ne_bytes());
        bytes[18..].copy_from_slice(&socket.0.to_ne_bytes());
        Self(bytes)
    }
}

impl Hash for Remote {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Keys of SipHash, so that nobody outside can make entries collide.
#[derive(Clone, Copy, Debug)]
struct Keys(u64, u64);

impl BuildHasher for Keys {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_leads_back_to_its_agent() {
        let mut source = Source::new([7; 32]);
        let demux = Demux::new(&mut source);
        let ids = [0, 1, u32::MAX, 77].map(|slot| (slot, demux.transaction_id(&mut source, slot)));
        for (slot, id) in ids {
            assert_eq!(demux.slot_of(id), slot);
        }
        // Neighbouring slots do not show.
        assert_ne!(ids[0].1.as_bytes()[8..], ids[1].1.as_bytes()[8..]);
        let again = demux.transaction_id(&mut source, 0);
        assert_ne!(again.as_bytes()[8..], ids[0].1.as_bytes()[8..]);
    }

    #[test]
    fn claims_are_exclusive() {
        let mut demux = Demux::new(&mut Source::new([7; 32]));
        let mut arena = crate::arena::Arena::new();
        let (one, two) = (AgentId(arena.insert(())), AgentId(arena.insert(())));
        let ufrag = "abcd";
        assert!(demux.claim_ufrag(ufrag, 1));
        assert!(!demux.claim_ufrag(ufrag, 2));
        assert_eq!(demux.by_ufrag(ufrag), Some(1));
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(demux.claim_remote(SocketId(1), remote, one));
        assert!(demux.claim_remote(SocketId(1), remote, one));
        assert!(!demux.claim_remote(SocketId(1), remote, two));
        assert!(demux.claim_remote(SocketId(2), remote, two));
        for (socket, agent) in [(1, one), (2, two)] {
            let AgentId(key) = agent;
            assert!(!demux.take_heard(key.slot));
            let owner = demux.receive(Time::from_millis(1), SocketId(socket), remote, 10);
            assert_eq!(owner, Some(agent));
            assert_eq!([(); 2].map(|()| demux.take_heard(key.slot)), [true, false]);
        }
        demux.release_ufrag("abcd");
        assert!(demux.release_remote(SocketId(1), remote).is_some());
        assert_eq!(demux.by_ufrag("abcd"), None);
        assert!(demux.by_remote(SocketId(1), remote).is_none());
    }
}
