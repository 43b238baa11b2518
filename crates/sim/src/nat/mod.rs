//! NATs in the terms of RFC 4787 and, for TCP, RFC 5382: what a mapping and what a filter depends on, where
//! ports and addresses come from.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;
use core::time::Duration;

mod state;

pub(crate) use self::state::NatState;

/// How a NAT behaves.
///
/// ```
/// use nilas_sim::{Dependence, Nat, PortAssignment};
///
/// // A symmetric NAT that draws its ports.
/// let mut nat = Nat::new(
///     Dependence::AddressAndPortDependent,
///     Dependence::AddressAndPortDependent,
/// );
/// nat.ports = PortAssignment::Random;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Nat {
    /// What the mapping of an inside address depends on (RFC 4787 section 4.1).
    pub mapping: Dependence,
    /// What decides whether a datagram from outside may pass (RFC 4787 section 5).
    pub filtering: Dependence,
    /// Whether two inside addresses reach each other through their outside ones (RFC 4787 section 6).
    pub hairpin: bool,
    /// How long a UDP mapping lives after it was last refreshed (RFC 4787 section 4.3). TCP's times are those of
    /// RFC 5382 section 5: 2 hours and 4 minutes for an established connection, else 4 minutes.
    pub lifetime: Duration,
    /// What refreshes a UDP mapping (RFC 4787 section 4.3).
    pub refresh: Refresh,
    /// Where outside ports come from (RFC 4787 section 4.2.1).
    pub ports: PortAssignment,
    /// Whether an outside port is even exactly if the inside one is (RFC 4787 section 4.2.2).
    pub parity: bool,
    /// Where outside addresses come from, if there are several (RFC 4787 section 4.1).
    pub pooling: Pooling,
    /// So many consecutive ports are there for each inside address and no more, as behind a carrier-grade NAT
    /// (RFC 6888); `None` shares all ports among all.
    pub block: Option<NonZeroU16>,
}

impl Nat {
    /// A NAT of this mapping and filtering that hairpins, whose mappings live two minutes after the last datagram
    /// from inside, with ports one after the other.
    pub const fn new(mapping: Dependence, filtering: Dependence) -> Self {
        // RFC 4787 section 4.3: a mapping must not expire in less than two minutes.
        Self {
            mapping,
            filtering,
            hairpin: true,
            lifetime: Duration::from_secs(120),
            refresh: Refresh::Outbound,
            ports: PortAssignment::Sequential,
            parity: false,
            pooling: Pooling::Paired,
            block: None,
        }
    }
}

impl Default for Nat {
    /// The commonest NAT at home: endpoint-independent mapping, address and port-dependent filtering.
    fn default() -> Self {
        Self::new(
            Dependence::EndpointIndependent,
            Dependence::AddressAndPortDependent,
        )
    }
}

/// What of the outside endpoint makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 4787 sections 4.1 and 5 know these three"
)]
pub enum Dependence {
    /// Nothing of it.
    EndpointIndependent,
    /// Its address.
    AddressDependent,
    /// Its address and its port.
    AddressAndPortDependent,
}

impl Dependence {
    /// All three, from the most to the least lenient.
    pub const ALL: [Self; 3] = [
        Self::EndpointIndependent,
        Self::AddressDependent,
        Self::AddressAndPortDependent,
    ];

    /// Only what makes a difference; the rest is put to nothing.
    pub(crate) const fn part_of(self, endpoint: SocketAddr) -> (Option<IpAddr>, u16) {
        match self {
            Self::EndpointIndependent => (None, 0),
            Self::AddressDependent => (Some(endpoint.ip()), 0),
            Self::AddressAndPortDependent => (Some(endpoint.ip()), endpoint.port()),
        }
    }
}

/// Which datagrams refresh a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Refresh {
    /// Those from inside: what RFC 4787 section 4.3 demands at the least.
    Outbound,
    /// Those from outside that pass the filter, and not those from inside: a NAT that breaks the RFC.
    Inbound,
    /// Those of both directions.
    Both,
}

/// Where a NAT takes its outside ports from. All but overloading take the next port if a wanted one is taken, from
/// 20,000 to 65,535 and round again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortAssignment {
    /// One after the other.
    Sequential,
    /// The inside port where it is free ("port preservation").
    Preserving,
    /// The inside port always, even if another mapping has it ("port overloading", which RFC 4787 section 4.2.1
    /// forbids): what comes from outside goes to the latest mapping whose filter lets it in.
    Overloading,
    /// Any.
    Random,
}

/// Which of its addresses a NAT takes for a new mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 4787 section 4.1 knows these two"
)]
pub enum Pooling {
    /// The same for all mappings of an inside address.
    Paired,
    /// One after the other.
    Arbitrary,
}
