//! Local candidates: which are kept, and which are told and how.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Agent;
use super::generation::{Generation, LocalCandidate, Origin};
use super::select::NETWORK_COST;
use super::trickle::plain;
use crate::candidate::{Candidate, CandidateAddress, CandidateType, Foundation, Transport};
use crate::event::Event;
use crate::shared::Shared;

/// More server-reflexive and peer-reflexive local candidates than this are not kept.
pub(super) const MAX_LOCALS: usize = 128;

impl Agent {
    /// Keeps a local candidate and tells it, unless it is redundant (RFC 8445 section 5.1.3).
    pub(super) fn add_local(&mut self, shared: &mut Shared, mut candidate: LocalCandidate) {
        let is_full = self.current.locals.len() >= MAX_LOCALS;
        let transport = |local: &LocalCandidate| self.sockets[usize::from(local.socket)].tcp();
        let own = transport(&candidate);
        let is_host = candidate.kind == CandidateType::Host;
        // What a server sees is no repetition of a name (draft-ietf-mmusic-mdns-ice-candidates-03, 3.1.2.2).
        let repeats = |known: &LocalCandidate| {
            known.address == candidate.address
                && transport(known) == own
                && (is_host || self.own_name(known).is_none())
        };
        let known = self.current.locals.iter().position(repeats);
        // RFC 8838 section 13: after end-of-candidates none is told any more.
        if self.current.local_ended {
            return;
        }
        if candidate.kind == CandidateType::Srflx {
            candidate.priority = self.own_priority(&candidate, known);
        }
        match known {
            // What a server sees may be told even if it is a local address that may not.
            Some(known)
                if self.settings.hides_hosts()
                    && self.current.locals[known].kind == CandidateType::Host
                    && !is_host =>
            {
                self.current.locals[known] = candidate;
            }
            // It is back: what a gateway forwards comes and goes.
            Some(known) if self.current.locals[known].removed => {
                self.current.locals[known] = candidate;
            }
            // A check has taught it, which the peer knows of one socket only, and of no other that could reach it there.
            Some(known)
                if self.current.locals[known].kind == CandidateType::Prflx
                    && (!self.current.concluded || self.is_continual()) =>
            {
                self.current.locals[known] = candidate;
            }
            Some(_) => return,
            None if is_full => return,
            None => self.current.locals.push(candidate),
        }
        if self.is_told(&candidate) {
            self.register_name(shared, &candidate);
            let told = self.candidate(&self.current, &candidate);
            self.emit(shared, Event::Candidate(told));
        }
    }

    /// RFC 8445 section 5.1.2: no two candidates have the same priority, which those have that several servers see of one
    /// base. What comes later stands back by more than two bases are apart.
    fn own_priority(&self, candidate: &LocalCandidate, place: Option<usize>) -> u32 {
        const STEP: u32 = 256 << 8;
        let is_other = |(index, known): &(usize, &LocalCandidate)| {
            Some(*index) != place && !known.removed && known.kind != CandidateType::Prflx
        };
        let is_taken = |priority: u32| {
            let mut others = self.current.locals.iter().enumerate().filter(is_other);
            others.any(|(_, known)| known.priority == priority)
        };
        let mut priority = candidate.priority;
        // Below that there is no room left in the local preference.
        while is_taken(priority) && priority & 0x00ff_0000 != 0 {
            priority -= STEP;
        }
        priority
    }

    /// Whether the peer is told of a local candidate: not of what a check has taught, nor of what is hidden.
    pub(super) fn is_told(&self, local: &LocalCandidate) -> bool {
        match local.kind {
            CandidateType::Prflx => false,
            CandidateType::Host => !self.settings.hides_hosts(),
            CandidateType::Srflx | CandidateType::Relay => true,
        }
    }

    /// A local candidate as it is told.
    pub(super) fn candidate(&self, generation: &Generation, local: &LocalCandidate) -> Candidate {
        let foundation = Foundation::from_number(local.foundation);
        let mut candidate =
            Candidate::new(local.kind, plain(local.address), local.priority, foundation);
        candidate.component = self.component();
        if let Some(name) = self.own_name(local) {
            let port = local.address.port();
            candidate.address = CandidateAddress::Name {
                name: name.into(),
                port,
            };
        }
        let base = &self.sockets[usize::from(local.socket)];
        if let Some(tcp_type) = base.tcp() {
            candidate.transport = Transport::Tcp(tcp_type);
        }
        candidate.related = match (local.kind, base.relay) {
            (CandidateType::Host, _) => None,
            // RFC 8839 sections 5.1 and 9.1: the mapped address, or nothing where it is nobody's business.
            (CandidateType::Relay, Some(relay)) => Some(
                self.mapped_of(relay)
                    .filter(|_| !self.settings.relay_only() && !self.settings.hides_bases())
                    .map_or_else(|| unspecified(base.address), plain),
            ),
            // The base, unless it is replaced by what it is outside, or hidden.
            _ if self.settings.hides_bases() => Some(unspecified(base.address)),
            _ => Some(plain(self.external(base.address).0.unwrap_or(base.address))),
        };
        if base.network_cost > 0 {
            let cost = base.network_cost.to_string().into();
            candidate.extensions.push((NETWORK_COST.into(), cost));
        }
        candidate.ufrag = Some(generation.local.ufrag.shared());
        candidate
    }

    /// What the configuration says that a local address is outside: in its place, and beside it.
    pub(super) fn external(&self, local: SocketAddr) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let of = |replaces: bool| {
            let mut known = self.settings.external_addresses().iter();
            let found = known.find(|own| own.replaces == replaces && own.is_of(local.ip()));
            found.map(|own| SocketAddr::new(own.external, local.port()))
        };
        (of(true), of(false))
    }

    /// The number of a server in foundations (RFC 8445 section 5.1.1.3): servers are told apart by the address that is asked, and
    /// not by how they were given. Beyond a translator or a redirection, or where only the rim knows it, it is that of the entry.
    pub(super) fn number_of_server(&self, asked: Option<IpAddr>, entry: Origin) -> u32 {
        let has = |addresses: &[SocketAddr]| {
            asked.is_some_and(|asked| addresses.iter().any(|own| own.ip() == asked))
        };
        let stun = self.servers.iter().position(|own| has(&own.addresses));
        let relay = || self.turn.as_ref()?.position(has);
        let behind = self.servers.len();
        let entry = match entry {
            Origin::Stun(server) => usize::from(server),
            Origin::Turn(server) => behind + usize::from(server),
            Origin::Local | Origin::Gateway => 0,
        };
        let number = stun.or_else(|| relay().map(|relay| behind + relay));
        number.unwrap_or(entry) as u32
    }

    /// The server that told a candidate.
    pub(super) fn server_url(&self, candidate: &LocalCandidate) -> Option<&str> {
        match candidate.origin {
            Origin::Local | Origin::Gateway => None,
            Origin::Stun(server) => Some(&self.servers[usize::from(server)].url),
            Origin::Turn(server) => self.turn.as_ref()?.url(server),
        }
    }

    /// How the TURN server of a relayed candidate is reached.
    pub(super) fn relay_protocol(&self, candidate: &LocalCandidate) -> Option<&'static str> {
        match (candidate.kind, candidate.origin) {
            (CandidateType::Relay, Origin::Turn(server)) => self.turn.as_ref()?.protocol(server),
            _ => None,
        }
    }
}

/// RFC 8839 section 9.1: what is not told.
const fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9),
    }
}
