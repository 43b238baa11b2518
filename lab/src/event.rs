//! What can happen to a network in the middle of a session.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::node::{NameError, Node, Uplink};

/// Something that happens to a running laboratory, at once and until another event undoes it.
///
/// Written as a person would type it: `flush na`, `readdress na 198.51.100.9`, `blackhole wa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// `flush NODE`: the router forgets every flow and mapping, as after a power cut. Kinds that preserve
    /// ports come back on the same port.
    Flush(Node),
    /// `remap NODE`: the NAT forgets every mapping and gives out other ports from now on.
    Remap(Node),
    /// `readdress NODE ADDRESS`: the NAT gets another public address from its own /26, and has forgotten everything.
    Readdress {
        /// The NAT on the uplink.
        node: Node,
        /// Its new address.
        address: Ipv4Addr,
    },
    /// `losewifi`: the first peer's eth0 goes down and loses its addresses.
    LoseWifi,
    /// `regainwifi`: it comes back, with the same addresses.
    RegainWifi,
    /// `blackhole UPLINK`: the core drops everything that comes from or goes to this uplink, silently.
    Blackhole(Uplink),
    /// `oneway UPLINK`: the core drops what goes to this uplink; what comes from it still passes.
    OneWay(Uplink),
    /// `unblackhole UPLINK`: undoes `blackhole` and `oneway`.
    Unblackhole(Uplink),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush(node) => write!(f, "flush {node}"),
            Self::Remap(node) => write!(f, "remap {node}"),
            Self::Readdress { node, address } => write!(f, "readdress {node} {address}"),
            Self::LoseWifi => f.write_str("losewifi"),
            Self::RegainWifi => f.write_str("regainwifi"),
            Self::Blackhole(uplink) => write!(f, "blackhole {uplink}"),
            Self::OneWay(uplink) => write!(f, "oneway {uplink}"),
            Self::Unblackhole(uplink) => write!(f, "unblackhole {uplink}"),
        }
    }
}

impl FromStr for Event {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(match *words.as_slice() {
            ["flush", node] => Self::Flush(node.parse()?),
            ["remap", node] => Self::Remap(node.parse()?),
            ["readdress", node, address] => Self::Readdress {
                node: node.parse()?,
                address: address
                    .parse()
                    .map_err(|_| EventError::Address(address.to_owned()))?,
            },
            ["losewifi"] => Self::LoseWifi,
            ["regainwifi"] => Self::RegainWifi,
            ["blackhole", uplink] => Self::Blackhole(uplink.parse()?),
            ["oneway", uplink] => Self::OneWay(uplink.parse()?),
            ["unblackhole", uplink] => Self::Unblackhole(uplink.parse()?),
            _ => return Err(EventError::Unknown(text.to_owned())),
        })
    }
}

/// Why a text is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// No event is written like this.
    Unknown(String),
    /// A node or uplink that does not exist.
    Name(NameError),
    /// Not an IPv4 address.
    Address(String),
}

impl From<NameError> for EventError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                f,
                "no event is written `{text}`; there are flush NODE, remap NODE, readdress NODE ADDRESS, losewifi, \
                 regainwifi, blackhole UPLINK, oneway UPLINK, unblackhole UPLINK"
            ),
            Self::Name(error) => error.fmt(f),
            Self::Address(text) => write!(f, "`{text}` is not an IPv4 address"),
        }
    }
}

impl std::error::Error for EventError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Unknown(_) | Self::Address(_) => None,
        }
    }
}
