//! What makes no sense in a world.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::world::{NodeId, Realm};

/// Why a world makes no sense: the place and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorldError {
    /// Two nodes of a realm want one address.
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Where.
        realm: Realm,
        /// Who has it.
        owner: NodeId,
        /// Who wants it, too.
        wanted_by: NodeId,
    },
    /// Two routers of a realm want one network, or parts of one.
    PrefixTaken {
        /// The network.
        prefix: IpNet,
        /// What it overlaps.
        other: IpNet,
        /// Whose that is.
        owner: NodeId,
        /// Who wants it, too.
        wanted_by: NodeId,
    },
    /// A node has no address on a link.
    NoAddress {
        /// The node.
        node: NodeId,
    },
    /// A node of this world was given a realm of another one.
    UnknownRealm {
        /// The realm.
        realm: Realm,
    },
    /// A NAT needs outside addresses, all of one family, and a router has one NAT for each family.
    NatAddresses {
        /// The router.
        node: NodeId,
    },
    /// A translator from IPv6 to IPv4 needs an IPv4 NAT and a prefix of 96 bits.
    Translator {
        /// The router.
        node: NodeId,
    },
    /// A server cannot listen there: something else does.
    PortTaken {
        /// The server.
        node: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// From an address of a node there is no way out of its realm, and nobody else is there.
    NoRoute {
        /// The node.
        node: NodeId,
        /// The address.
        address: IpAddr,
        /// Where it is.
        realm: Realm,
    },
    /// A probability is below 0 or above 1, or no number.
    Probability {
        /// Whose link it is.
        node: NodeId,
        /// What it was to be the probability of.
        what: &'static str,
    },
}

impl fmt::Display for WorldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressTaken {
                address,
                realm,
                owner,
                wanted_by,
            } => write!(
                f,
                "{address} has an owner in {realm} already: {owner}; give {wanted_by} another address"
            ),
            Self::PrefixTaken {
                prefix,
                other,
                owner,
                wanted_by,
            } => write!(
                f,
                "{wanted_by} is to route {prefix}, but {owner} routes {other}: give them networks that do not overlap"
            ),
            Self::NoAddress { node } => write!(f, "{node} has no address: give it one"),
            Self::UnknownRealm { realm } => write!(
                f,
                "{realm} is of another world: take Realm::INTERNET, or one that this world gave"
            ),
            Self::NatAddresses { node } => write!(
                f,
                "{node} is a router whose NAT has no outside address, or some of both families, or is the second of its family: give each family one NAT"
            ),
            Self::Translator { node } => write!(
                f,
                "{node} translates IPv6 to IPv4: it needs a NAT with an IPv4 address, and a prefix of 96 bits"
            ),
            Self::PortTaken { node, address } => {
                write!(f, "{node} cannot listen on {address}: that port is taken")
            }
            Self::NoRoute {
                node,
                address,
                realm,
            } => write!(
                f,
                "{node} is alone with {address} in {realm}: no router there passes its family, so it reaches nobody"
            ),
            Self::Probability { node, what } => {
                write!(
                    f,
                    "the link of {node} has a probability of {what} that is not between 0 and 1"
                )
            }
        }
    }
}

impl core::error::Error for WorldError {}
