//! What would have to change to get a direct path, as far as one side can tell.

use core::net::IpAddr;

use super::story::Tracker;
use super::{Advice, Outcome, ServerEnd};
use crate::candidate::CandidateType;
use crate::config::AddressPolicy;
use crate::verdict::Verdict;

pub(super) fn advise(agent: &Tracker, outcome: Outcome) -> Vec<Advice> {
    match outcome {
        Outcome::Connected { relayed: false } | Outcome::OnlyGathered => return Vec::new(),
        // It had a path: the network was not in the way.
        Outcome::Lost { relayed: false } => return vec![Advice::PeerBack],
        Outcome::Undecided if agent.remote_parameters.is_none() => return vec![Advice::Signaling],
        Outcome::Failed { .. } | Outcome::Undecided => {}
        Outcome::Connected { relayed: true } | Outcome::Lost { relayed: true } => {}
    }
    if agent.config.addresses == AddressPolicy::RelayOnly {
        return vec![Advice::AllowDirect];
    }
    if agent.locals.is_empty() {
        return vec![Advice::LocalAddress];
    }
    if agent.remotes.is_empty() && agent.pairs.seen_from().next().is_none() {
        return vec![Advice::Signaling];
    }
    if matches!(
        outcome,
        Outcome::Failed {
            verdict: Verdict::NothingToPair
        }
    ) {
        return vec![Advice::CommonFamily, Advice::Ipv6];
    }
    let mut advice = Vec::new();
    if matches!(outcome, Outcome::Lost { .. }) {
        advice.push(Advice::PeerBack);
    }
    advise_on_servers(agent, &mut advice);
    if tells_private_addresses_only(agent) {
        advice.push(Advice::PeerStunServer);
    }
    if matches!(
        outcome,
        Outcome::Failed {
            verdict: Verdict::OneWay { .. }
        }
    ) {
        advice.push(Advice::OneWay);
    }
    advise_on_nats(agent, &mut advice);
    advice
}

fn advise_on_servers(agent: &Tracker, advice: &mut Vec<Advice>) {
    let has_public = agent
        .locals
        .iter()
        .any(|local| is_public(local.address.ip()) || local.kind == CandidateType::Srflx);
    if agent.servers.is_empty() && !has_public {
        return advice.push(Advice::AddStunServer);
    }
    let unreachable = agent.servers.iter().filter(|server| {
        let is_udp = !server.url.ends_with("transport=tcp");
        is_udp && matches!(server.end, ServerEnd::Unreachable { .. })
    });
    let urls: Vec<_> = unreachable.map(|server| server.url.clone()).collect();
    if urls.is_empty() {
        return;
    }
    // Streams do not show: what they bring is no datagram.
    if agent.heard == 0 {
        return advice.push(Advice::LetUdpOut);
    }
    advice.extend(urls.into_iter().map(|url| Advice::FixServer { url }));
}

/// The peer told host candidates, none of them public, and nothing that a server told it.
fn tells_private_addresses_only(agent: &Tracker) -> bool {
    !agent.remotes.is_empty()
        && agent.remotes.iter().all(|(_, candidate)| {
            candidate.kind == CandidateType::Host
                && candidate
                    .ip_address()
                    .is_none_or(|address| !is_public(address.ip()))
        })
}

fn advise_on_nats(agent: &Tracker, advice: &mut Vec<Advice>) {
    let before = advice.len();
    if maps_by_destination(agent) {
        advice.push(Advice::LocalNat);
    }
    if peer_maps_by_destination(agent) {
        advice.push(Advice::RemoteNat);
    }
    // Where nothing else is known to be wrong, it is between the two.
    if advice.len() == before && before == 0 {
        advice.push(Advice::EitherNat);
    }
    let has_ipv6 = |ip: IpAddr| ip.is_ipv6() && is_public(ip);
    let both_have_ipv6 = agent
        .locals
        .iter()
        .any(|local| has_ipv6(local.address.ip()))
        && agent.remotes.iter().any(|(_, candidate)| {
            candidate
                .ip_address()
                .is_some_and(|address| has_ipv6(address.ip()))
        });
    if advice.len() > before && !both_have_ipv6 {
        advice.push(Advice::Ipv6);
    }
}

/// RFC 4787 section 4.1: two destinations saw one base under different addresses.
fn maps_by_destination(agent: &Tracker) -> bool {
    let mapped = |kind| matches!(kind, CandidateType::Srflx | CandidateType::Prflx);
    agent.locals.iter().any(|one| {
        agent.locals.iter().any(|other| {
            mapped(one.kind)
                && mapped(other.kind)
                && one.base == other.base
                && one.address != other.address
                && one.generation == other.generation
        })
    })
}

/// A check came from the address that a server saw, and from another port.
fn peer_maps_by_destination(agent: &Tracker) -> bool {
    let told = |seen: core::net::SocketAddr| {
        agent.remotes.iter().any(|(_, candidate)| {
            candidate.kind == CandidateType::Srflx
                && candidate
                    .ip_address()
                    .is_some_and(|told| told.ip() == seen.ip() && told.port() != seen.port())
        })
    };
    agent.pairs.seen_from().any(told)
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            // RFC 6598: between a carrier's NAT and its customers.
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared)
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback()),
    }
}
