//! An agent on a machine that has IPv6 only reaches IPv4 through its network's translator (RFC 8445 section 5.1.1.2).
//!
//! STUN and TURN servers are asked so, and the IPv4 addresses that they tell become server-reflexive candidates of
//! the IPv6 base. With such a candidate RFC 8445 section 6.1.2.2 pairs the peer's IPv4 candidates, one family
//! with another of the same; section 6.1.2.4 then puts the base in the candidate's place, from which IPv4 can only be
//! reached through the translator. So each IPv4 candidate of the peer is taken in twice: as it was told, for relayed
//! bases of IPv4, and as it is reached from here. That needs the prefix and no server, and is done without one, too.

use core::net::{IpAddr, SocketAddr};

use super::{Agent, Socket};
use crate::candidate::may_pair;
use crate::event::GatheringState;
use crate::shared::Shared;

impl Agent {
    /// Asks for the translator's prefix, if this agent has a use for it.
    pub(super) fn ask_for_translator(&self, shared: &mut Shared) {
        if self.is_ipv6_only(shared)
            && let Some(question) = shared.nat64.ask()
        {
            shared.command(question);
        }
    }

    /// Whether IPv4 is wanted and this machine has none of its own: only IPv6 addresses are left to it.
    fn is_ipv6_only(&self, shared: &Shared) -> bool {
        let filter = self.settings.filter();
        let Some(interfaces) = shared
            .interfaces
            .as_ref()
            .filter(|_| filter.ipv4 && !self.lite)
        else {
            return false;
        };
        let mut has_ipv6 = false;
        for interface in interfaces {
            for address in &interface.addresses {
                if address.is_loopback() || !self.settings.admits(interface, *address) {
                    continue;
                }
                match address {
                    IpAddr::V4(_) => return false,
                    IpAddr::V6(v6) => has_ipv6 |= !v6.is_unicast_link_local(),
                }
            }
        }
        has_ipv6
    }

    /// Where an IPv4 address is reached from this machine, if that is through a translator.
    pub(super) fn through_translator(
        &self,
        shared: &Shared,
        address: SocketAddr,
    ) -> Option<SocketAddr> {
        let far = shared.nat64.through(address)?;
        self.is_ipv6_only(shared).then_some(far)
    }

    /// The address of a server to ask from this base: the first of its family, or through the translator.
    pub(super) fn address_for(
        &self,
        shared: &Shared,
        addresses: &[SocketAddr],
        base: IpAddr,
    ) -> Option<SocketAddr> {
        direct_address_for(addresses, base)
            .or_else(|| self.far_address_for(shared, addresses, base))
    }

    /// The address of a server to ask from this base through the translator.
    pub(super) fn far_address_for(
        &self,
        shared: &Shared,
        addresses: &[SocketAddr],
        base: IpAddr,
    ) -> Option<SocketAddr> {
        let mut far = addresses
            .iter()
            .filter_map(|address| self.through_translator(shared, *address));
        far.find(|address| reaches(base, *address))
    }

    /// Whether gathering waits for the prefix: there is a server to be asked through it.
    pub(super) fn awaits_translator(&self, shared: &Shared) -> bool {
        shared.nat64.is_awaited()
            && (self
                .servers
                .iter()
                .any(|server| server.addresses.iter().any(SocketAddr::is_ipv4))
                || self
                    .turn
                    .as_ref()
                    .is_some_and(|turn| turn.any_server(ipv4_only)))
            && self.is_ipv6_only(shared)
    }

    /// The prefix is known, or that there is none.
    pub(crate) fn translator_known(&mut self, shared: &mut Shared) {
        if self.closed || self.gathering == GatheringState::New || !self.is_ipv6_only(shared) {
            return;
        }
        for known in 0..self.current.remotes.len() {
            let remote = &self.current.remotes[known];
            let (candidate, told) = (remote.candidate.as_ref().clone(), remote.address);
            if let Some(far) = self.through_translator(shared, told) {
                // Where the bound of candidates is reached, there is no room for it.
                let _ = self.take_in(shared, candidate, far);
            }
        }
        if self.gathering == GatheringState::Gathering {
            for socket in 0..self.sockets.len() as u16 {
                for server in 0..self.servers.len() as u16 {
                    self.add_job(shared, socket, server);
                }
            }
            self.gather_delayed_relays(shared);
            self.finish_gathering(shared);
        }
    }
}

/// The first address that is reached from this base without a translator.
pub(super) fn direct_address_for(addresses: &[SocketAddr], base: IpAddr) -> Option<SocketAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| reaches(base, *address))
}

fn reaches(base: IpAddr, address: SocketAddr) -> bool {
    may_pair(base, address.ip()) && base.is_loopback() == address.ip().is_loopback()
}

/// Whether a server's addresses, as far as they are known, are of IPv4 only.
pub(super) fn ipv4_only(addresses: &[SocketAddr]) -> bool {
    !addresses.is_empty() && addresses.iter().all(SocketAddr::is_ipv4)
}

/// The local preference of a reflexive candidate. RFC 8445 section 5.1.1.2: that of a translator counts as one of IPv4,
/// which comes after that of IPv6.
pub(super) const fn reflexive_preference(base: &Socket, mapped: SocketAddr) -> u16 {
    match (base.address, mapped) {
        (SocketAddr::V6(_), SocketAddr::V4(_)) => base.preference.saturating_sub(1),
        _ => base.preference,
    }
}
