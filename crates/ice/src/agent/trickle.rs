//! The peer's candidates, whenever they come (RFC 8838 sections 11 and 14).

use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::Agent;
use super::generation::RemoteCandidate;
use super::select::network_cost;
use crate::candidate::{Candidate, CandidateAddress, CandidateType, Transport};
use crate::config::TcpCandidates;
use crate::error::AgentError;
use crate::shared::Shared;
use nilas_turn::Time;

impl Agent {
    pub(crate) fn add_remote_candidate(
        &mut self,
        shared: &mut Shared,
        now: Time,
        mut candidate: Candidate,
    ) -> Result<(), AgentError> {
        // RFC 8838 section 11 and RFC 8839: a candidate of another generation is dropped, not paired.
        // Before the peer's parameters are known, there is nothing to compare with.
        let ufrag = candidate.ufrag.as_deref();
        if let (Some(ufrag), Some(remote)) = (ufrag, &self.current.remote)
            && *ufrag != *remote.ufrag
        {
            return Err(AgentError::StaleCandidate);
        }
        let usable = self.speaks(&candidate.transport) && candidate.component == self.component();
        let address = match &candidate.address {
            CandidateAddress::Ip(address) => is_target(*address).then_some(*address),
            CandidateAddress::Name { .. } => None,
        };
        if !usable || address.is_none() && !self.may_resolve(&candidate) {
            return Err(AgentError::UnusableCandidate);
        }
        if self.current.remote_ended {
            let tcp = matches!(candidate.transport, Transport::Tcp(_));
            let known = match address {
                Some(address) => self.current.remote_at(address, tcp),
                None => self.current.remote_of_name(&candidate.address, tcp),
            };
            let is_there = |known| !self.current.remotes[usize::from(known)].removed;
            // What is told again is nothing new: no other end follows.
            let is_new = !known.is_some_and(is_there);
            if !self.is_continual() {
                return match is_new {
                    false => Ok(()),
                    true => Err(AgentError::AfterEndOfCandidates),
                };
            }
            self.current.remote_ended = !is_new;
        }
        if let Some(remote) = self
            .current
            .remote
            .as_ref()
            .filter(|_| candidate.ufrag.is_some())
        {
            // One and the same text for all candidates.
            candidate.ufrag = Some(remote.ufrag.shared());
        }
        match address {
            Some(address) => self.take_in_everywhere(shared, candidate, address)?,
            None => self.resolve_name(shared, candidate)?,
        }
        // What is told again may say that its network has become costly.
        self.consider_move(shared, now);
        Ok(())
    }

    /// Takes a candidate in that is reached at this address, and if need be through a translator.
    pub(super) fn take_in_everywhere(
        &mut self,
        shared: &mut Shared,
        candidate: Candidate,
        address: SocketAddr,
    ) -> Result<(), AgentError> {
        let far = self.through_translator(shared, address);
        if let Some(far) = far {
            self.take_in(shared, candidate.clone(), far)?;
        }
        self.take_in(shared, candidate, address)
    }

    /// Takes a candidate in that is reached at this address.
    pub(super) fn take_in(
        &mut self,
        shared: &mut Shared,
        candidate: Candidate,
        address: SocketAddr,
    ) -> Result<(), AgentError> {
        let limit = usize::from(self.settings.max_pairs).max(100);
        let tcp = matches!(candidate.transport, Transport::Tcp(_));
        if let Some(known) = self.current.remote_at(address, tcp) {
            // A check that overtook signaling has paired it with the socket that it came to, and with no other (RFC 8445
            // section 7.3.1.3).
            if self.relabel(known, candidate) && self.current.remote.is_some() {
                self.pair_remote(known, &mut shared.counters);
            }
            self.back_again(shared, known);
        } else if self.current.remotes.len() >= limit {
            return Err(AgentError::TooManyCandidates);
        } else {
            let remote = self.insert_remote(candidate, address);
            if self.current.remote.is_some() {
                self.pair_remote(remote, &mut shared.counters);
            }
        }
        Ok(())
    }

    /// The peer takes a candidate back: nothing is asked there any more, and data goes elsewhere. One that is not known
    /// need not be forgotten.
    pub(crate) fn remove_remote_candidate(
        &mut self,
        shared: &mut Shared,
        now: Time,
        candidate: &Candidate,
    ) -> Result<(), AgentError> {
        let ufrag = candidate.ufrag.as_deref();
        if let (Some(ufrag), Some(remote)) = (ufrag, &self.current.remote)
            && *ufrag != *remote.ufrag
        {
            return Err(AgentError::StaleCandidate);
        }
        let tcp = matches!(candidate.transport, Transport::Tcp(_));
        let known = match candidate.ip_address() {
            Some(address) => self.current.remote_at(address, tcp),
            None => self.current.remote_of_name(&candidate.address, tcp),
        };
        self.forget_name(shared, &candidate.address);
        let Some(known) = known else {
            return Ok(());
        };
        self.current.remotes[usize::from(known)].removed = true;
        self.give_up(shared, now, |pair| pair.remote == known);
        Ok(())
    }

    /// A candidate that the peer had taken back is told again, or has sent a check.
    pub(super) fn back_again(&mut self, shared: &mut Shared, remote: u16) {
        let known = &mut self.current.remotes[usize::from(remote)];
        if core::mem::take(&mut known.removed) && self.current.remote.is_some() {
            self.pair_remote(remote, &mut shared.counters);
        }
    }

    fn speaks(&self, transport: &Transport) -> bool {
        match transport {
            Transport::Udp => true,
            Transport::Tcp(_) => self.settings.tcp != TcpCandidates::Off,
            Transport::Other(_) => false,
        }
    }

    pub(crate) fn end_of_remote_candidates(&mut self, shared: &mut Shared, now: Time) {
        self.current.remote_ended = true;
        self.update_state(shared, now);
    }

    pub(super) fn insert_remote(&mut self, candidate: Candidate, address: SocketAddr) -> u16 {
        let remotes = &mut self.current.remotes;
        let index = remotes.len() as u16;
        let same = remotes
            .iter()
            .position(|known| known.candidate.foundation == candidate.foundation);
        // RFC 8445 section 7.3.1.3: a peer-reflexive candidate's foundation is none of the others'.
        let foundation = match same {
            Some(first) if candidate.kind != CandidateType::Prflx => first as u16,
            _ => index,
        };
        remotes.push(RemoteCandidate {
            is_tcp: matches!(candidate.transport, Transport::Tcp(_)),
            candidate: Box::new(candidate),
            address,
            foundation,
            removed: false,
        });
        index
    }

    /// RFC 8838 section 11: a known address may turn out to be better than it seemed; its pairs keep
    /// their states. Whether it was peer-reflexive until now.
    fn relabel(&mut self, remote: u16, candidate: Candidate) -> bool {
        let known = &mut self.current.remotes[usize::from(remote)].candidate;
        let learned = known.kind == CandidateType::Prflx && candidate.kind != CandidateType::Prflx;
        if learned || candidate.priority > known.priority {
            **known = candidate;
            self.reprioritize();
        } else if network_cost(known) != network_cost(&candidate) {
            known.extensions = candidate.extensions;
        }
        learned
    }
}

/// Whether a check may go there at all. What no peer can have is no target: nobody must be able to
/// point an agent at a whole network.
pub(super) fn is_target(address: SocketAddr) -> bool {
    let ip_ok = match address.ip() {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    };
    ip_ok && address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

/// A link-local address needs the interface it is reached through: that of the local socket.
pub(super) fn scoped(remote: SocketAddr, base: SocketAddr) -> SocketAddr {
    match (remote, base) {
        (SocketAddr::V6(remote), SocketAddr::V6(base)) if remote.ip().is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(
                *remote.ip(),
                remote.port(),
                0,
                base.scope_id(),
            ))
        }
        _ => remote,
    }
}

/// The same address without what only this machine knows.
pub(super) const fn plain(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
        v4 => v4,
    }
}
