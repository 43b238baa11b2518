//! A NAT at work.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use nilas_ice::Time;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::{Nat, Pooling, PortAssignment, Refresh};
use crate::packet::{Flow, Segment};
use crate::trace::Fate;

/// A NAT at work.
#[derive(Debug)]
pub(crate) struct NatState {
    behaviour: Nat,
    /// Its outside addresses, of one family.
    pool: Vec<IpAddr>,
    mappings: BTreeMap<u64, Mapping>,
    by_key: BTreeMap<MappingKey, u64>,
    /// More than one only where ports are overloaded; the latest stands last.
    by_outside: BTreeMap<(bool, SocketAddr), Vec<u64>>,
    /// The mapping of each session: of an inside and an outside endpoint that exchanged packets.
    sessions: BTreeMap<(bool, SocketAddr, SocketAddr), u64>,
    next_mapping: u64,
    next_port: u16,
    next_address: usize,
    paired: BTreeMap<IpAddr, IpAddr>,
    blocks: BTreeMap<IpAddr, Block>,
    /// When what has expired is swept out next.
    sweep_at: Time,
    random: ChaCha8Rng,
}

/// Whether it is TCP, an inside address, and what of the outside endpoint its mapping depends on.
type MappingKey = (bool, SocketAddr, (Option<IpAddr>, u16));

#[derive(Debug)]
struct Mapping {
    key: MappingKey,
    outside: SocketAddr,
    refreshed: Time,
    /// The outside endpoints that the inside has sent to, as far as the filter looks at them.
    permitted: BTreeSet<(Option<IpAddr>, u16)>,
    lifetime: Duration,
    /// Whether an inside host has asked for it: then it stays, and whoever sends to it is let in.
    forwarded: bool,
    /// Whether something has come in: with what goes out after that a TCP connection is established.
    answered: bool,
}

/// The ports of an inside address behind a carrier-grade NAT.
#[derive(Clone, Copy, Debug)]
struct Block {
    address: IpAddr,
    first: u16,
}

/// Where a NAT takes its ports from; those below are left to services.
const FIRST_PORT: u16 = 20_000;
/// RFC 5382 section 5: an established connection, idle.
const TCP_ESTABLISHED: Duration = Duration::from_secs(2 * 3_600 + 4 * 60);
/// RFC 5382 section 5: a connection that is opened or closed.
const TCP_TRANSITORY: Duration = Duration::from_secs(4 * 60);

impl NatState {
    pub(crate) fn new(behaviour: Nat, pool: &[IpAddr], random: ChaCha8Rng) -> Self {
        Self {
            behaviour,
            pool: pool.to_vec(),
            mappings: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_outside: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_mapping: 0,
            next_port: FIRST_PORT,
            next_address: 0,
            paired: BTreeMap::new(),
            blocks: BTreeMap::new(),
            sweep_at: Time::ZERO,
            random,
        }
    }

    /// The source that a packet from inside has outside, or why it cannot pass.
    pub(crate) fn translate_out(
        &mut self,
        now: Time,
        flow: Flow,
        inside: SocketAddr,
        destination: SocketAddr,
    ) -> Result<SocketAddr, Fate> {
        let key = (
            flow.is_tcp(),
            inside,
            self.behaviour.mapping.part_of(destination),
        );
        let live = |id: &u64| self.is_live(now, *id);
        let session = (flow.is_tcp(), inside, destination);
        let of_session = self.sessions.get(&session).copied().filter(live);
        let live = of_session.or_else(|| self.by_key.get(&key).copied().filter(live));
        let id = match (live, flow) {
            (Some(id), _) => id,
            // RFC 5382 section 4.2: a connection begins with a SYN; what comes later belongs to one that was forgotten.
            (None, Flow::Tcp(Segment { syn: false, .. })) => return Err(Fate::Filtered),
            (None, _) => self.open(now, key).ok_or(Fate::NoPort)?,
        };
        self.keep_session(now, session, id);
        let lifetime = self.behaviour.lifetime;
        let refresh = self.behaviour.refresh != Refresh::Inbound;
        let filtering = self.behaviour.filtering;
        let mapping = self.mappings.get_mut(&id).ok_or(Fate::NoPort)?;
        match flow {
            Flow::Udp => mapping.lifetime = lifetime,
            Flow::Tcp(segment) => mapping.follow(segment, true),
        }
        // RFC 4787 section 4.3: outbound refresh. RFC 5382 section 5 has it for TCP, always.
        if refresh || flow.is_tcp() {
            mapping.refreshed = now;
        }
        mapping.permitted.insert(filtering.part_of(destination));
        Ok(mapping.outside)
    }

    /// The inside address that a packet from `source` to an outside address is for; `None` if no mapping or the
    /// filter stops it.
    ///
    /// What passes is answered from the port it came to, unless the inside has sent to `source` before: so do
    /// all NATs that keep a table of sessions, Linux's among them. It matters where the mapping depends on the
    /// destination and the filter lets strangers in, of which RFC 4787 says nothing.
    pub(crate) fn translate_in(
        &mut self,
        now: Time,
        flow: Flow,
        source: SocketAddr,
        outside: SocketAddr,
    ) -> Option<SocketAddr> {
        let part = self.behaviour.filtering.part_of(source);
        let ids = self.by_outside.get(&(flow.is_tcp(), outside))?;
        let id = ids.iter().rev().copied().find(|id| {
            self.is_live(now, *id)
                && self
                    .mappings
                    .get(id)
                    .is_some_and(|mapping| mapping.forwarded || mapping.permitted.contains(&part))
        })?;
        let refresh = self.behaviour.refresh != Refresh::Outbound;
        let mapping = self.mappings.get_mut(&id)?;
        match flow {
            Flow::Udp if refresh => mapping.refreshed = now,
            Flow::Udp => {}
            Flow::Tcp(segment) => {
                mapping.follow(segment, false);
                mapping.refreshed = now;
            }
        }
        let inside = mapping.key.1;
        self.keep_session(now, (flow.is_tcp(), inside, source), id);
        Some(inside)
    }

    /// Forwards a UDP port to an inside address, whatever the NAT's mapping and filtering: that port, if there is one.
    pub(crate) fn forward(&mut self, now: Time, inside: SocketAddr) -> Option<SocketAddr> {
        let key = Self::forwarded_key(inside);
        let known = self.by_key.get(&key).copied();
        let known = known.filter(|id| self.is_live(now, *id));
        let id = known.or_else(|| self.open(now, key))?;
        let mapping = self.mappings.get_mut(&id)?;
        mapping.forwarded = true;
        Some(mapping.outside)
    }

    /// The port is wanted no more. Those who have met there may go on.
    pub(crate) fn unforward(&mut self, inside: SocketAddr) {
        let id = self.by_key.get(&Self::forwarded_key(inside));
        if let Some(mapping) = id.and_then(|id| self.mappings.get_mut(id)) {
            mapping.forwarded = false;
        }
    }

    /// That of a mapping for all destinations.
    const fn forwarded_key(inside: SocketAddr) -> MappingKey {
        (false, inside, (None, 0))
    }

    /// Forgets everything, as a router does that was switched off.
    pub(crate) fn reboot(&mut self) {
        self.mappings.clear();
        self.by_key.clear();
        self.by_outside.clear();
        self.sessions.clear();
        self.paired.clear();
        self.blocks.clear();
        self.next_port = FIRST_PORT;
        self.next_address = 0;
    }

    /// Other outside addresses: what led through the old ones is forgotten.
    pub(crate) fn renumber(&mut self, pool: &[IpAddr]) {
        self.reboot();
        self.pool = pool.to_vec();
    }

    pub(crate) fn pool(&self) -> &[IpAddr] {
        &self.pool
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.pool.iter().any(IpAddr::is_ipv4)
    }

    pub(crate) const fn hairpins(&self) -> bool {
        self.behaviour.hairpin
    }

    fn is_live(&self, now: Time, id: u64) -> bool {
        self.mappings
            .get(&id)
            .is_some_and(|mapping| mapping.is_live(now))
    }

    /// Writes down which mapping a session has, if it has none yet.
    fn keep_session(&mut self, now: Time, session: (bool, SocketAddr, SocketAddr), id: u64) {
        let known = self.sessions.get(&session).copied();
        if known.is_none_or(|id| !self.is_live(now, id)) {
            self.sessions.insert(session, id);
        }
    }

    fn open(&mut self, now: Time, key: MappingKey) -> Option<u64> {
        self.sweep(now);
        let (tcp, inside, _) = key;
        let (address, ports) = match self.behaviour.block {
            Some(size) => {
                let block = self.block_of(inside.ip(), size.get())?;
                (block.address, (block.first, u32::from(size.get())))
            }
            None => {
                let all = u32::from(u16::MAX - FIRST_PORT) + 1;
                (self.address_for(inside.ip())?, (FIRST_PORT, all))
            }
        };
        let port = self.port_for(now, tcp, address, inside.port(), ports)?;
        let outside = SocketAddr::new(address, port);
        let id = self.next_mapping;
        self.next_mapping += 1;
        let mapping = Mapping {
            key,
            outside,
            refreshed: now,
            permitted: BTreeSet::new(),
            lifetime: if tcp {
                TCP_TRANSITORY
            } else {
                self.behaviour.lifetime
            },
            forwarded: false,
            answered: false,
        };
        // What expired on this port must not lead to its new owner.
        let others = self.by_outside.entry((tcp, outside)).or_default();
        if self.behaviour.ports != PortAssignment::Overloading {
            for expired in core::mem::take(others) {
                if let Some(expired_mapping) = self.mappings.remove(&expired)
                    && self.by_key.get(&expired_mapping.key) == Some(&expired)
                {
                    self.by_key.remove(&expired_mapping.key);
                }
            }
        }
        others.push(id);
        self.by_key.insert(key, id);
        self.mappings.insert(id, mapping);
        Some(id)
    }

    fn address_for(&mut self, inside: IpAddr) -> Option<IpAddr> {
        let paired = match self.behaviour.pooling {
            Pooling::Paired => self.paired.get(&inside).copied(),
            Pooling::Arbitrary => None,
        };
        if paired.is_some() {
            return paired;
        }
        let address = *self.pool.get(self.next_address % self.pool.len().max(1))?;
        self.next_address += 1;
        self.paired.insert(inside, address);
        Some(address)
    }

    fn block_of(&mut self, inside: IpAddr, size: u16) -> Option<Block> {
        if let Some(block) = self.blocks.get(&inside) {
            return Some(*block);
        }
        let in_each = usize::from((u16::MAX - FIRST_PORT) / size);
        let number = self.blocks.len();
        let address = *self.pool.get(number.checked_div(in_each)?)?;
        let block = Block {
            address,
            first: FIRST_PORT + (number % in_each) as u16 * size,
        };
        self.blocks.insert(inside, block);
        Some(block)
    }

    /// A port among so many from a first one on.
    fn port_for(
        &mut self,
        now: Time,
        tcp: bool,
        address: IpAddr,
        inside: u16,
        (first, count): (u16, u32),
    ) -> Option<u16> {
        if self.behaviour.ports == PortAssignment::Overloading {
            return Some(inside);
        }
        let parity = self.behaviour.parity;
        let fits = |nat: &Self, port: u16| {
            let key = (tcp, SocketAddr::new(address, port));
            (!parity || port % 2 == inside % 2)
                && nat
                    .by_outside
                    .get(&key)
                    .is_none_or(|ids| !ids.iter().any(|id| nat.is_live(now, *id)))
        };
        if self.behaviour.ports == PortAssignment::Preserving
            && (self.behaviour.block.is_none()
                || (u32::from(first)..u32::from(first) + count).contains(&u32::from(inside)))
            && fits(self, inside)
        {
            return Some(inside);
        }
        let start = match self.behaviour.ports {
            PortAssignment::Random => self.random.next_u32(),
            _ => u32::from(self.next_port - FIRST_PORT),
        } % count;
        let port = (0..count)
            .map(|step| first + ((start + step) % count) as u16)
            .find(|port| fits(self, *port))?;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT).max(FIRST_PORT);
        Some(port)
    }

    /// Now and then what has expired is swept out, so that a long life costs no more than a short one.
    fn sweep(&mut self, now: Time) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + self.behaviour.lifetime.max(Duration::from_secs(1));
        self.mappings.retain(|_, mapping| mapping.is_live(now));
        let mappings = &self.mappings;
        self.by_key.retain(|_, id| mappings.contains_key(id));
        self.sessions.retain(|_, id| mappings.contains_key(id));
        self.by_outside.retain(|_, ids| {
            ids.retain(|id| mappings.contains_key(id));
            !ids.is_empty()
        });
    }
}

impl Mapping {
    fn is_live(&self, now: Time) -> bool {
        self.forwarded || now.since(self.refreshed) <= self.lifetime
    }

    /// Follows a TCP connection as far as its lifetime depends on it.
    const fn follow(&mut self, segment: Segment, outbound: bool) {
        if segment.fin || segment.rst || segment.syn {
            self.lifetime = TCP_TRANSITORY;
        } else if outbound && self.answered {
            self.lifetime = TCP_ESTABLISHED;
        }
        if !outbound && !segment.rst {
            self.answered = true;
        }
    }
}

#[cfg(test)]
mod tests;
