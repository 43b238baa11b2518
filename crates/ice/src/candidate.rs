//! Candidates: addresses at which a side may be reached (RFC 8445 section 5).

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A transport address offered for checks, with what was said about it.
///
/// `Display` and `FromStr` are the `candidate:…` line of RFC 8839 section 5.1, without `a=`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Equal for candidates of the same type, base, server and transport (RFC 8445 section 5.1.1.3).
    pub foundation: Foundation,
    /// The component of the data stream, 1 to 256.
    pub component: u16,
    /// The transport protocol.
    pub transport: Transport,
    /// The priority, 1 to 2^31 - 1 (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// The address and port.
    pub address: CandidateAddress,
    /// How the address was found.
    pub kind: CandidateType,
    /// The base, or the mapped address of a relayed candidate: for diagnosis only.
    pub related: Option<SocketAddr>,
    /// The username fragment of the generation it belongs to, where the line says so.
    pub ufrag: Option<Arc<str>>,
    /// Extension attributes, in their order, unchanged.
    pub extensions: Vec<(Box<str>, Box<str>)>,
}

impl Candidate {
    /// A candidate of component 1 over UDP without extensions.
    pub fn new(
        kind: CandidateType,
        address: SocketAddr,
        priority: u32,
        foundation: Foundation,
    ) -> Self {
        Self {
            foundation,
            component: 1,
            transport: Transport::Udp,
            priority,
            address: CandidateAddress::Ip(address),
            kind,
            related: None,
            ufrag: None,
            extensions: Vec::new(),
        }
    }

    /// The address, where it is one and not a name.
    pub const fn ip_address(&self) -> Option<SocketAddr> {
        match &self.address {
            CandidateAddress::Ip(address) => Some(*address),
            CandidateAddress::Name { .. } => None,
        }
    }
}

/// Where a candidate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateAddress {
    /// An address and a port.
    Ip(SocketAddr),
    /// A name, such as those ending in `.local`, and a port.
    Name {
        /// The name.
        name: Box<str>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for CandidateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// How a candidate's address was found (RFC 8445 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateType {
    /// An address of the machine.
    Host,
    /// The address a STUN server sees.
    Srflx,
    /// The address the peer sees, learned from a check.
    Prflx,
    /// An address of a TURN server.
    Relay,
}

impl CandidateType {
    /// The word in a candidate line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Prflx => "prflx",
            Self::Relay => "relay",
        }
    }

    /// The type preference that RFC 8445 section 5.1.2.2 recommends.
    pub const fn preference(self) -> u32 {
        match self {
            Self::Host => 126,
            Self::Prflx => 110,
            Self::Srflx => 100,
            Self::Relay => 0,
        }
    }
}

impl fmt::Display for CandidateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The transport of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP (RFC 6544).
    Tcp(TcpType),
    /// Another one, by its token; it is kept and written back, and never paired.
    Other(Box<str>),
}

/// Who opens the connection of a TCP candidate (RFC 6544 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcpType {
    /// It opens connections, and accepts none. Its port has no meaning and is told as 9.
    Active,
    /// It accepts connections, and opens none.
    Passive,
    /// Both open one at the same time (simultaneous open).
    So,
}

impl TcpType {
    /// That of a candidate at the other end of a connection.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
            Self::So => Self::So,
        }
    }

    /// The word in a candidate line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::So => "so",
        }
    }
}

impl fmt::Display for TcpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A priority as RFC 8445 section 5.1.2.1 computes it.
///
/// ```
/// use nilas_ice::{CandidateType, priority};
/// assert_eq!(priority(CandidateType::Host, 65535, 1), 2130706431);
/// ```
pub const fn priority(kind: CandidateType, local_preference: u16, component: u16) -> u32 {
    let component = if component > 256 {
        256
    } else {
        component as u32
    };
    (kind.preference() << 24) + ((local_preference as u32) << 8) + (256 - component)
}

/// The priority of a candidate that the network's gateway tells: RFC 6544 section 4.2 has it between those of peer-reflexive
/// and of server-reflexive ones.
pub(crate) const fn nat_assisted_priority(local_preference: u16, component: u16) -> u32 {
    let above = 105 - CandidateType::Srflx.preference();
    priority(CandidateType::Srflx, local_preference, component) + (above << 24)
}

/// The priority of a TCP candidate (RFC 6544 section 4.2): the direction of the connection counts before the local
/// preference.
///
/// Any UDP candidate goes before any TCP candidate, but for relayed ones: RFC 6544 has datagrams of real time go by UDP.
pub(crate) const fn tcp_priority(
    kind: CandidateType,
    tcp_type: TcpType,
    local_preference: u16,
    component: u16,
) -> u32 {
    let preference: u32 = match kind {
        CandidateType::Host => 90,
        CandidateType::Prflx => 80,
        CandidateType::Srflx => 70,
        CandidateType::Relay => 0,
    };
    let direction = match (kind, tcp_type) {
        (CandidateType::Srflx, TcpType::So)
        | (CandidateType::Host | CandidateType::Prflx | CandidateType::Relay, TcpType::Active) => 6,
        (CandidateType::Srflx, TcpType::Active) => 4,
        (CandidateType::Srflx, TcpType::Passive) | (_, TcpType::So) => 2,
        (_, TcpType::Passive) => 4,
    };
    // The local preferences of an agent's addresses go down from 65,535 one by one.
    let other = local_preference.saturating_sub(u16::MAX - 8_191);
    let local = (direction << 13) + other;
    priority(kind, local, component) - ((kind.preference() - preference) << 24)
}

/// The priority of a pair (RFC 8445 section 6.1.2.3).
pub(crate) const fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (g, d) = (controlling as u64, controlled as u64);
    let (low, high) = if g < d { (g, d) } else { (d, g) };
    // A peer-reflexive priority may be any 32 bits; past the 31 of the grammar the sum saturates.
    (low << 32).saturating_add(2 * high + (g > d) as u64)
}

/// A foundation: 1 to 32 ice-chars (RFC 8839 section 5.1), without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foundation {
    length: u8,
    bytes: [u8; 32],
}

impl Foundation {
    /// The foundation with this text, if the grammar allows it.
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 32 || !text.bytes().all(crate::parameters::is_ice_char) {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self {
            length: text.len() as u8,
            bytes,
        })
    }

    /// The foundation that is this number in decimal.
    pub fn from_number(mut number: u32) -> Self {
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let mut bytes = [0; 32];
        bytes[..10 - at].copy_from_slice(&digits[at..]);
        Self {
            length: (10 - at) as u8,
            bytes,
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // Only ice-chars are ever stored, which are ASCII.
        core::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether two addresses may form a pair (RFC 8445 section 6.1.2.2): one family, and IPv6 link-local
/// addresses only among themselves.
pub(crate) fn may_pair(local: IpAddr, remote: IpAddr) -> bool {
    match (local, remote) {
        (IpAddr::V4(_), IpAddr::V4(_)) => true,
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            local.is_unicast_link_local() == remote.is_unicast_link_local()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_those_of_the_formulas() {
        assert_eq!(priority(CandidateType::Srflx, 65535, 1), 1_694_498_815);
        assert_eq!(priority(CandidateType::Relay, 0, 256), 0);
        // RFC 6544 section 4.2: 2^13 * direction-pref + other-pref.
        let tcp = |kind, tcp_type| tcp_priority(kind, tcp_type, 65_535, 1);
        let formula = |preference: u32, direction: u32| {
            (preference << 24) + (((direction << 13) + 8_191) << 8) + 255
        };
        assert_eq!(tcp(CandidateType::Host, TcpType::Active), formula(90, 6));
        assert_eq!(tcp(CandidateType::Host, TcpType::Passive), formula(90, 4));
        assert_eq!(tcp(CandidateType::Host, TcpType::So), formula(90, 2));
        assert_eq!(tcp(CandidateType::Prflx, TcpType::Active), formula(80, 6));
        assert_eq!(tcp(CandidateType::Srflx, TcpType::So), formula(70, 6));
        assert_eq!(tcp(CandidateType::Srflx, TcpType::Passive), formula(70, 2));
        // RFC 8445 section 6.1.2.3: 2^32*MIN(G,D) + 2*MAX(G,D) + (G>D?1:0).
        assert_eq!(pair_priority(3, 5), (3 << 32) + 10);
        assert_eq!(pair_priority(5, 3), (3 << 32) + 11);
        assert_eq!(pair_priority(u32::MAX, u32::MAX), u64::MAX);
    }

    #[test]
    fn foundations_keep_to_the_grammar() {
        assert_eq!(Foundation::from_number(0).as_str(), "0");
        assert_eq!(Foundation::from_number(u32::MAX).as_str(), "4294967295");
        assert_eq!(
            Foundation::new("a+/9").map(|f| f.to_string()).as_deref(),
            Some("a+/9")
        );
        for wrong in ["", "a b", "ä", "123456789012345678901234567890123"] {
            assert_eq!(Foundation::new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn link_local_pairs_only_with_link_local() {
        let ip = |text: &str| text.parse().expect("an address");
        assert!(may_pair(ip("fe80::1"), ip("fe80::2")));
        assert!(!may_pair(ip("fe80::1"), ip("2001:db8::2")));
        assert!(!may_pair(ip("192.0.2.1"), ip("2001:db8::2")));
        assert!(may_pair(ip("169.254.0.1"), ip("192.0.2.1")));
    }
}
