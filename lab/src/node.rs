//! The machines of a laboratory and the cables to its core.

use std::fmt;
use std::str::FromStr;

/// One of the two peers' sides of the laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "a session has two peers")]
pub enum Side {
    /// The first spec of a topology.
    A,
    /// The second spec of a topology.
    B,
}

/// A machine: a network namespace with a role. Which of them exist depends on the topology; the core,
/// the server and the two peers always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Node {
    /// `core`: the internet between the two sides, a router.
    Core,
    /// `srv`: a public machine with two addresses of each family ([`crate::SERVER_V4`], [`crate::SERVER_V6`]).
    Server,
    /// `a`: the first peer.
    A,
    /// `b`: the second peer.
    B,
    /// `na`: the home router of the first peer.
    HomeA,
    /// `nb`: the home router of the second peer.
    HomeB,
    /// `ca`: the carrier-grade NAT above the first peer's router.
    CarrierA,
    /// `cb`: the carrier-grade NAT above the second peer's router.
    CarrierB,
    /// `nc`: the mobile network behind the first peer's second interface.
    Cell,
}

impl Node {
    /// Every machine that a topology can have.
    pub const ALL: [Self; 9] = [
        Self::Core,
        Self::Server,
        Self::A,
        Self::B,
        Self::HomeA,
        Self::HomeB,
        Self::CarrierA,
        Self::CarrierB,
        Self::Cell,
    ];

    pub(crate) const fn peer(side: Side) -> Self {
        match side {
            Side::A => Self::A,
            Side::B => Self::B,
        }
    }

    pub(crate) const fn home(side: Side) -> Self {
        match side {
            Side::A => Self::HomeA,
            Side::B => Self::HomeB,
        }
    }

    pub(crate) const fn carrier(side: Side) -> Self {
        match side {
            Side::A => Self::CarrierA,
            Side::B => Self::CarrierB,
        }
    }

    /// Whether it forwards packets between its interfaces.
    pub(crate) const fn is_router(self) -> bool {
        !matches!(self, Self::Server | Self::A | Self::B)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Server => "srv",
            Self::A => "a",
            Self::B => "b",
            Self::HomeA => "na",
            Self::HomeB => "nb",
            Self::CarrierA => "ca",
            Self::CarrierB => "cb",
            Self::Cell => "nc",
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Node {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|node| node.name() == text)
            .ok_or_else(|| NameError {
                what: "node",
                given: text.to_owned(),
                allowed: "core, srv, a, b, na, nb, ca, cb, nc",
            })
    }
}

/// A cable from the core to one side; what happens to it happens to everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Uplink {
    /// `wa`: to the first side. With the kind `multi`, its Wi-Fi.
    A,
    /// `wb`: to the second side.
    B,
    /// `wc`: to the mobile network of the kind `multi`.
    Cell,
}

impl Uplink {
    /// Every uplink that a topology can have.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Cell];

    pub(crate) const fn of(side: Side) -> Self {
        match side {
            Side::A => Self::A,
            Side::B => Self::B,
        }
    }

    /// The name of the core's interface.
    pub(crate) const fn interface(self) -> &'static str {
        match self {
            Self::A => "wa",
            Self::B => "wb",
            Self::Cell => "wc",
        }
    }
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

impl FromStr for Uplink {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|uplink| uplink.interface() == text)
            .ok_or_else(|| NameError {
                what: "uplink",
                given: text.to_owned(),
                allowed: "wa, wb, wc",
            })
    }
}

/// A name that no node or uplink has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    what: &'static str,
    given: String,
    allowed: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no {} is called `{}`; there are {}",
            self.what, self.given, self.allowed
        )
    }
}

impl std::error::Error for NameError {}
