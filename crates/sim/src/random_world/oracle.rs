//! Which paths exist, by reasoning about the networks alone.

use nilas_ice::TcpCandidates;

use super::plan::{Net, Plan, Servers, Uplink};
use crate::nat::{Dependence, Nat};

/// How sure a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Existence {
    /// No check can pass.
    No,
    /// It depends on whose check comes first.
    Perhaps,
    /// A check passes, once both sides have told what their servers see.
    WithServers,
    /// A check passes without a server's help.
    Yes,
}

/// Which of a peer's interfaces are there.
pub(super) type Present = [Vec<bool>; 2];

/// Whether a path over UDP without a relay exists between two interfaces.
pub(super) fn path(a: &Uplink, b: &Uplink) -> Existence {
    if !a.udp || !b.udp {
        return Existence::No;
    }
    // Behind firewalls both sides' checks open the way.
    if a.has_v6() && b.has_v6() {
        return Existence::Yes;
    }
    let translated = [a, b].iter().any(|uplink| uplink.net == Net::Translated);
    match (seen_from_outside(a), seen_from_outside(b)) {
        // Behind a translator the prefix has to be learned first.
        (None, _) | (_, None) if translated => Existence::WithServers,
        (None, _) | (_, None) => Existence::Yes,
        (Some(a), Some(b)) => behind_nats(a, b),
    }
}

/// The mapping and the filtering of all that an uplink's IPv4 goes through: each counts as its strictest.
fn seen_from_outside(uplink: &Uplink) -> Option<(Dependence, Dependence)> {
    let guard = match uplink.net {
        Net::V4 | Net::Dual => None,
        Net::Guarded | Net::Translated => Some(Nat::default()),
    };
    let nats = uplink.nats.iter().chain([&guard]).flatten();
    nats.map(|nat| (nat.mapping, nat.filtering))
        .reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))
}

/// The reasoning of the matrix's tables.
fn behind_nats(a: (Dependence, Dependence), b: (Dependence, Dependence)) -> Existence {
    use Dependence::{AddressAndPortDependent, EndpointIndependent};
    let stable = |nat: (Dependence, Dependence)| nat.0 == EndpointIndependent;
    let open = |nat: (Dependence, Dependence)| nat.1 == EndpointIndependent;
    let passes_if = |holds| {
        if holds {
            Existence::WithServers
        } else {
            Existence::No
        }
    };
    match (stable(a), stable(b)) {
        (true, true) => Existence::WithServers,
        (true, false) if a.1 != AddressAndPortDependent => Existence::WithServers,
        (false, true) if b.1 != AddressAndPortDependent => Existence::WithServers,
        // The stable side's check passes the open filter, if it comes before the other side's has left.
        (true, false) if open(b) => Existence::Perhaps,
        (false, true) if open(a) => Existence::Perhaps,
        (true, false) | (false, true) => Existence::No,
        (false, false) => passes_if(open(a) || open(b)),
    }
}

/// The surest path over UDP without a relay between any two interfaces that are there.
pub(super) fn direct(plan: &Plan, present: &Present) -> Existence {
    let [a, b] = [0, 1].map(|peer| there(plan, present, peer));
    // A machine that has IPv4 of its own asks no translator.
    let has_v4 = |of: &[&Uplink]| of.iter().any(|uplink| uplink.has_v4());
    let [v4_at_a, v4_at_b] = [has_v4(&a), has_v4(&b)];
    let idle = |uplink: &Uplink, has_v4: bool| has_v4 && uplink.net == Net::Translated;
    let between = |one: &Uplink, other: &Uplink| {
        let same_family = one.has_v6() && other.has_v6();
        match !same_family && (idle(one, v4_at_a) || idle(other, v4_at_b)) {
            true => Existence::No,
            false => path(one, other),
        }
    };
    let pairs = a
        .iter()
        .flat_map(|one| b.iter().map(move |other| between(one, other)));
    pairs.max().unwrap_or(Existence::No)
}

/// The surest path of any kind.
pub(super) fn surest(plan: &Plan, present: &Present) -> Existence {
    direct(plan, present)
        .max(relayed(plan, present))
        .max(over_tcp(plan, present))
}

fn there<'a>(plan: &'a Plan, present: &Present, peer: usize) -> Vec<&'a Uplink> {
    let interfaces = plan.peers[peer].interfaces.iter().zip(&present[peer]);
    { interfaces.filter(|(_, is_there)| **is_there) }
        .map(|(uplink, _)| uplink)
        .collect()
}

/// Two relays reach each other; and where one side can have one, so can the other, if it has a way there.
fn relayed(plan: &Plan, present: &Present) -> Existence {
    let has_relay = |peer: usize| {
        !plan.peers[peer].lite
            && there(plan, present, peer)
                .iter()
                .any(|uplink| plan.servers.relay_for(uplink))
    };
    // A lite agent has a public address, which a relay reaches.
    let is_reached = |peer: usize| has_relay(peer) || plan.peers[peer].lite;
    let with_relay = matches!(plan.servers, Servers::Turn(_));
    if with_relay
        && (has_relay(0) && is_reached(1) || has_relay(1) && is_reached(0))
        && [0, 1]
            .iter()
            .all(|peer| !there(plan, present, *peer).is_empty())
    {
        Existence::WithServers
    } else {
        Existence::No
    }
}

/// RFC 6544: one side opens a connection to where anybody may.
fn over_tcp(plan: &Plan, present: &Present) -> Existence {
    let opens = |peer: usize| plan.peers[peer].tcp != TcpCandidates::Off && !plan.peers[peer].lite;
    let accepts = |peer: usize| plan.peers[peer].tcp == TcpCandidates::All;
    let reaches = |from: usize| {
        let to = 1 - from;
        opens(from)
            && accepts(to)
            && there(plan, present, from).iter().any(|own| {
                there(plan, present, to).iter().any(|other| {
                    own.has_v4() && other.is_open() || own.has_v6() && other.is_open_v6()
                })
            })
    };
    if reaches(0) || reaches(1) {
        Existence::Yes
    } else {
        Existence::No
    }
}
