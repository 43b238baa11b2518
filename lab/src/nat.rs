//! What a NAT does with a UDP flow, in the words of RFC 4787.

use std::fmt;
use std::str::FromStr;

/// When a NAT keeps using the same external port for an internal one (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mapping {
    /// `eim`: whatever the destination.
    EndpointIndependent,
    /// `adm`: for one destination address.
    AddressDependent,
    /// `apdm`: for one destination address and port.
    AddressAndPortDependent,
}

/// Whom a NAT lets in through an existing mapping (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filtering {
    /// `eif`: anyone.
    EndpointIndependent,
    /// `adf`: an address that was sent to, from any of its ports.
    AddressDependent,
    /// `apdf`: an address and port that were sent to.
    AddressAndPortDependent,
}

/// One NAT box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nat {
    /// `plain`: the kernel's own masquerade, as home routers run it. It preserves the port where it
    /// can, so it looks endpoint-independent until two flows want the same port; filtering is by
    /// address and port.
    Plain,
    /// `sym`: masquerade with a random port for each destination: a symmetric NAT.
    Symmetric,
    /// One of the nine combinations of mapping and filtering, kept in nft maps and sets.
    Typed {
        /// When the external port stays the same.
        mapping: Mapping,
        /// Whom it lets in.
        filtering: Filtering,
    },
}

impl Nat {
    /// Every kind of NAT box, in the order of the documentation.
    pub const ALL: [Self; 11] = {
        use {Filtering as F, Mapping as M};
        const fn typed(mapping: Mapping, filtering: Filtering) -> Nat {
            Nat::Typed { mapping, filtering }
        }
        [
            Self::Plain,
            Self::Symmetric,
            typed(M::EndpointIndependent, F::EndpointIndependent),
            typed(M::EndpointIndependent, F::AddressDependent),
            typed(M::EndpointIndependent, F::AddressAndPortDependent),
            typed(M::AddressDependent, F::EndpointIndependent),
            typed(M::AddressDependent, F::AddressDependent),
            typed(M::AddressDependent, F::AddressAndPortDependent),
            typed(M::AddressAndPortDependent, F::EndpointIndependent),
            typed(M::AddressAndPortDependent, F::AddressDependent),
            typed(M::AddressAndPortDependent, F::AddressAndPortDependent),
        ]
    };

    /// What the `dual`, `multi`, `nat64` and `v6broken` kinds put before IPv4: the common home router.
    pub(crate) const HOME: Self = Self::Typed {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::AddressAndPortDependent,
    };

    pub(crate) const fn is_typed(self) -> bool {
        matches!(self, Self::Typed { .. })
    }

    const fn name(self) -> &'static str {
        use {Filtering as F, Mapping as M};
        match self {
            Self::Plain => "plain",
            Self::Symmetric => "sym",
            Self::Typed { mapping, filtering } => match (mapping, filtering) {
                (M::EndpointIndependent, F::EndpointIndependent) => "eim-eif",
                (M::EndpointIndependent, F::AddressDependent) => "eim-adf",
                (M::EndpointIndependent, F::AddressAndPortDependent) => "eim-apdf",
                (M::AddressDependent, F::EndpointIndependent) => "adm-eif",
                (M::AddressDependent, F::AddressDependent) => "adm-adf",
                (M::AddressDependent, F::AddressAndPortDependent) => "adm-apdf",
                (M::AddressAndPortDependent, F::EndpointIndependent) => "apdm-eif",
                (M::AddressAndPortDependent, F::AddressDependent) => "apdm-adf",
                (M::AddressAndPortDependent, F::AddressAndPortDependent) => "apdm-apdf",
            },
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Nat {
    type Err = ();

    /// The error says nothing: [`Spec`](crate::Spec) knows the whole list and words it.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|nat| nat.name() == text)
            .ok_or(())
    }
}
