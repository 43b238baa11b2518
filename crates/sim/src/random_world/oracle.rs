//! Which paths exist, by reasoning about the NATs alone.

use super::plan::{Plan, Uplink};
use crate::nat::Dependence;

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

/// Whether a path exists between two interfaces.
pub(super) fn path(a: &Uplink, b: &Uplink) -> Existence {
    match (seen_from_outside(a), seen_from_outside(b)) {
        (None, _) | (_, None) => Existence::Yes,
        (Some(a), Some(b)) => behind_nats(a, b),
    }
}

/// The mapping and the filtering of all NATs of an uplink together: each counts as its strictest.
fn seen_from_outside(uplink: &Uplink) -> Option<(Dependence, Dependence)> {
    let nats = uplink.nats.iter().flatten();
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

/// The surest path between any two interfaces.
pub(super) fn surest(plan: &Plan) -> Existence {
    let [a, b] = &plan.peers;
    let pairs = a
        .interfaces
        .iter()
        .flat_map(|one| b.interfaces.iter().map(move |other| path(one, other)));
    pairs.max().unwrap_or(Existence::No)
}
