//! Choices an application makes.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;

use nilas_turn::client::{Credentials, Families};

use crate::dscp::Dscp;
use crate::event::Role;
use crate::io::{Interface, StreamTransport};
use crate::parameters::Parameters;
use crate::selection::SelectionPolicy;

/// What holds for all agents of an engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The least time between two new transactions of all agents together.
    ///
    /// RFC 8445 section 14.2 demands 5 ms, the default. A server that hosts many agents may lower it,
    /// which departs from the RFC: its own link is not the one that the rule protects.
    pub pacing_floor: Duration,
    /// The most agents there can be.
    pub max_agents: u32,
    /// All agents share one UDP socket for each local address, on this port (0: any that is free). By default each agent has
    /// sockets of its own.
    ///
    /// Who meets a peer's address that another agent has met on the same socket gets another socket, because data from
    /// there could not be told apart; so does whoever asks a TURN server that another one has asked, because a server
    /// knows its clients by their address (RFC 8656 section 3).
    pub shared_port: Option<u16>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            pacing_floor: Duration::from_millis(5),
            max_agents: 1 << 20,
            shared_port: None,
        }
    }
}

/// How much of ICE an agent does (RFC 8445 section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All of it. The right choice for everything that may be behind a NAT or a firewall.
    #[default]
    Full,
    /// It only answers the checks of a full peer: for servers with a public address. It has host candidates only, and
    /// connects with another lite agent only where both can be reached directly, without asking whether the peer is there.
    ///
    /// RFC 8445 section 5.2 does not recommend more than one address of a family, because two lite agents could
    /// not find out which of them work. A full peer does find out, so all that the filter admits are offered.
    Lite,
}

/// Which TCP candidates an agent has (RFC 6544).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TcpCandidates {
    /// None, and those of the peer are not used.
    #[default]
    Off,
    /// Active ones: the agent opens connections, and no port of this machine is open for others.
    Active,
    /// Active, passive and simultaneous-open ones: two ports are open on each address. A lite agent has passive ones only.
    ///
    /// From these ports STUN servers are asked over TCP what they see of them, and so are TURN servers that are reached over
    /// TCP: behind most NATs it takes such candidates to get through without UDP. One that does not answer over TCP is no
    /// error.
    All,
}

/// What an agent has to do with candidates that are names of multicast DNS, which end in `.local`
/// (draft-ietf-mmusic-mdns-ice-candidates-03).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MdnsCandidates {
    /// Nothing: the peer's are refused.
    #[default]
    Off,
    /// The peer's, as browsers tell them, are looked for on the link, which sends multicast on all interfaces.
    Resolve,
    /// That, and own host candidates are told with such names in place of their addresses, so that only who is on the
    /// same link learns those. Statistics then do not show the peer's addresses that signaling has not told, either.
    ///
    /// What a STUN server or a relay sees is told as it is. An address that [`AgentConfig::external_addresses`] puts in the
    /// place of a local one is, too.
    Hide,
}

/// What an agent is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentConfig {
    /// Whether it is full or lite.
    pub mode: Mode,
    /// A first guess; a role conflict is healed by the protocol (RFC 8445 section 7.3.1.1).
    pub role: Role,
    /// STUN servers that tell server-reflexive candidates.
    pub stun_servers: Vec<StunServer>,
    /// TURN servers that relay where nothing direct works. Each is asked from every local address that
    /// can reach it.
    pub turn_servers: Vec<TurnServer>,
    /// Whether paths over TCP are looked for, for networks that let no UDP through. Off by default.
    pub tcp: TcpCandidates,
    /// Whether addresses may hide behind names, the peer's and this machine's. Off by default.
    pub mdns: MdnsCandidates,
    /// Which addresses of this machine are used, and which are told to the peer.
    pub addresses: AddressPolicy,
    /// The ports that UDP sockets are bound to; any if `None`. One port for many agents is
    /// [`EngineConfig::shared_port`], which goes before this.
    pub ports: Option<PortRange>,
    /// What addresses of this machine are outside of a NAT that maps each to one of its own, such as those of rented
    /// servers.
    pub external_addresses: Vec<ExternalAddress>,
    /// Whether the network's gateway is asked to forward a port to each IPv4 socket ([`Command::MapPort`](crate::Command::MapPort)),
    /// which becomes a candidate (RFC 6544 section 5.3). It opens a port of this network to everybody, so it is off by
    /// default.
    pub port_mapping: bool,
    /// Whether the agent restarts by itself (RFC 8445 section 9) when its path has died and no other is known,
    /// or when the addresses of this machine change. The event `LocalParameters` then comes unasked, to be
    /// passed to the peer as after [`restart`](crate::AgentMut::restart). On by default; where it is off,
    /// [`Event::RestartDue`](crate::Event::RestartDue) proposes it.
    pub restarts_alone: bool,
    /// Whether the agent offers to tell and take candidates that come or go after the end of candidates, without a
    /// restart: the ice-option `continual` of nilas. Where the peer does not offer it, RFC 8838 section 13 stands:
    /// changed addresses take a restart. True by default; then [`Event::CandidateRemoved`](crate::Event::CandidateRemoved) and
    /// what follows a first `Complete` must reach the peer.
    pub continual: bool,
    /// Which of the machine's addresses become host candidates.
    pub filter: InterfaceFilter,
    /// The credentials of the first generation, with a username fragment of 32 characters at most (RFC 8839 section 5.4); `None`
    /// makes fresh ones.
    pub credentials: Option<Parameters>,
    /// The time between two new transactions (Ta) that this agent asks for, whole milliseconds, 5 ms
    /// at the least. The slower of both sides' wishes holds, and a peer without one counts as 50 ms
    /// (RFC 8445 section 14.2, RFC 8839 section 5.5).
    pub pacing: Duration,
    /// The most candidate pairs checked at a time (RFC 8445 section 6.1.2.5).
    pub max_pairs: u16,
    /// The most remote candidates learned from checks rather than from signaling.
    pub max_peer_reflexive: u16,
    /// Which of several paths carries the data; `None` is [`selection::select`](crate::selection::select). What is chosen by
    /// another one cannot be played back from a recording.
    pub selection: Option<SelectionPolicy>,
    /// How long a session without a valid pair is given before it fails (RFC 8863 section 4).
    pub patience: Duration,
    /// How all datagrams of this agent are marked, checks and what goes to servers like the data (RFC 8445 section 7.2.3):
    /// see [`Transmit::dscp`](crate::Transmit::dscp). Whoever sends data marks it the same. Connections are not marked.
    pub dscp: Dscp,
    /// How long datagrams of data may be: whether that is found out.
    pub mtu: Mtu,
}

impl AgentConfig {
    /// The defaults, for this role.
    pub fn new(role: Role) -> Self {
        Self {
            mode: Mode::Full,
            role,
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            tcp: TcpCandidates::Off,
            mdns: MdnsCandidates::Off,
            addresses: AddressPolicy::All,
            ports: None,
            external_addresses: Vec::new(),
            port_mapping: false,
            restarts_alone: true,
            continual: true,
            filter: InterfaceFilter::default(),
            credentials: None,
            pacing: Duration::from_millis(5),
            max_pairs: 100,
            max_peer_reflexive: 32,
            selection: None,
            // RFC 8863 section 4: the time of a whole STUN transaction, 39.5 s with the defaults.
            patience: Duration::from_millis(39_500),
            dscp: Dscp::DEFAULT,
            mtu: Mtu::default(),
        }
    }
}

/// How long IP packets may be on a path, in bytes: the path MTU. What is left of it for data is
/// [`Path::max_payload`](crate::Path::max_payload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mtu {
    /// So long, and nothing is found out. The default is 1,280, which all of IPv6 carries and nearly all of IPv4.
    Fixed(u16),
    /// What the selected path carries is found out, up to so many bytes, by checks that are padded to the length in question
    /// (RFC 8899, RFC 5780 section 7.6); 1,500 is Ethernet's. Until something was found, and where the peer does not answer
    /// such checks, 1,280 bytes are taken for granted.
    ///
    /// It takes two packets of that length on most paths, a dozen on others, and one every 15 seconds in which data is sent.
    /// Behind a relay the server may fragment what is too long for its own way to the peer (RFC 8656 section 14); then
    /// what is found is what arrives. A lite agent, and one whose path is a TCP connection, finds nothing out.
    Discover(u16),
}

impl Default for Mtu {
    fn default() -> Self {
        Self::Fixed(1_280)
    }
}

/// Which addresses of this machine an agent uses, and which it tells: the modes of RFC 8828 section 5.2.
///
/// The RFC has an application that was not given the user's consent use its mode 2. That is between application and user:
/// the default here is mode 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressPolicy {
    /// Mode 1: all that the filter admits.
    #[default]
    All,
    /// Mode 2: those of the interface that the system's default route goes by, of each family.
    DefaultRoute,
    /// Mode 3: the same, but no local address is told, only what servers see of it.
    DefaultRouteHidden,
    /// Only relayed candidates are told and used (W3C's iceTransportPolicy `relay`), and neither local
    /// nor mapped addresses are shown to the peer. Mode 4 is this with a proxy.
    RelayOnly,
}

/// A range of ports, ends included.
///
/// ```
/// use nilas_ice::PortRange;
/// let range: PortRange = "50000-50099".parse()?;
/// assert_eq!((range.first(), range.last(), range.len()), (50_000, 50_099, 100));
/// assert_eq!("7000".parse::<PortRange>()?.len(), 1);
/// # Ok::<(), nilas_ice::PortRangeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`; none if there are none, or 0 is among them.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            return None;
        }
        Some(Self { first, last })
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u32 {
        (self.last - self.first) as u32 + 1
    }

    /// The port that follows, and the first after the last.
    pub(crate) const fn after(self, port: u16) -> u16 {
        if port >= self.last {
            self.first
        } else {
            port + 1
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse().map_err(|_| PortRangeError);
        Self::new(port(first)?, port(last)?).ok_or(PortRangeError)
    }
}

/// A text is no [`PortRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRangeError;

impl fmt::Display for PortRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port from 1 to 65535 is needed, or a range such as 50000-50099")
    }
}

impl core::error::Error for PortRangeError {}

/// An address outside of a NAT that maps one address to one, all ports to the same: the agent cannot see it, and
/// tells it to the peer without asking a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalAddress {
    /// The address outside.
    pub external: IpAddr,
    /// The local address it stands for; `None`: all of its family.
    pub local: Option<IpAddr>,
    /// It is told in place of the local address, which the peer then does not learn, as a host candidate. If not, it is
    /// told beside it, as a server-reflexive candidate.
    pub replaces: bool,
}

impl ExternalAddress {
    /// Told in place of all local addresses of its family.
    pub const fn replacing(external: IpAddr) -> Self {
        Self {
            external,
            local: None,
            replaces: true,
        }
    }

    pub(crate) fn is_of(&self, local: IpAddr) -> bool {
        self.external.is_ipv4() == local.is_ipv4() && self.local.is_none_or(|own| own == local)
    }
}

/// A STUN server, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// A host name or an address literal without brackets.
    pub host: String,
    /// The port, of UDP and of TCP; 3478 is the default of RFC 8489.
    pub port: u16,
}

impl StunServer {
    /// RFC 7064.
    pub(crate) fn url(&self) -> String {
        format!("stun:{}:{}", uri_host(&self.host), self.port)
    }
}

/// With brackets around an IPv6 address.
fn uri_host(host: &str) -> String {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.into(),
    }
}

impl From<SocketAddr> for StunServer {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// A TURN server, and who one is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnServer {
    /// A host name or an address literal without brackets.
    pub host: String,
    /// The port; RFC 8656 section 3.1 has 3478, and 5349 for TLS and DTLS.
    pub port: u16,
    /// How it is reached.
    pub transport: TurnTransport,
    /// The user name and password.
    pub credentials: Credentials,
    /// Which relayed addresses are asked for. A server that has no IPv6 address gives what it has.
    pub families: Families,
    /// Nobody named it, and its domain may offer it or not (RFC 5928 section 3, step 4): a name that leads nowhere is no
    /// error then. For servers that are reached by a connection.
    pub may_be_absent: bool,
}

impl TurnServer {
    /// A server that is asked for addresses of both families.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        transport: TurnTransport,
        credentials: Credentials,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            transport,
            credentials,
            families: Families::Both,
            may_be_absent: false,
        }
    }

    /// RFC 7065: TLS and DTLS are `turns`, over TCP and UDP.
    pub(crate) fn url(&self) -> String {
        let (scheme, transport) = match self.transport {
            TurnTransport::Udp => ("turn", "udp"),
            TurnTransport::Stream(StreamTransport::Tcp) => ("turn", "tcp"),
            TurnTransport::Stream(StreamTransport::Tls) => ("turns", "tcp"),
            TurnTransport::Stream(StreamTransport::Dtls) => ("turns", "udp"),
        };
        let host = uri_host(&self.host);
        format!("{scheme}:{host}:{}?transport={transport}", self.port)
    }
}

/// How a TURN server is reached (RFC 8656 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnTransport {
    /// UDP, from the sockets of the host candidates.
    Udp,
    /// A connection of its own.
    Stream(StreamTransport),
}

/// Which local addresses are used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceFilter {
    /// Loopback addresses; left out by default (RFC 8445 section 5.1.1.1).
    pub loopback: bool,
    /// Link-local addresses; left out by default. Where they are asked for, they are used beside temporary addresses, too,
    /// although RFC 8445 section 5.1.1.1 forbids that: nearly every machine has temporary ones, and the wish would come to nothing.
    pub link_local: bool,
    /// IPv4 addresses; admitted by default.
    pub ipv4: bool,
    /// IPv6 addresses; admitted by default.
    pub ipv6: bool,
    /// Which of the IPv6 addresses of one network.
    pub temporary: TemporaryAddresses,
    /// Interfaces by name; empty admits all.
    pub names: Vec<String>,
    /// Interfaces that are left out, by name, also if they are in `names`.
    pub excluded: Vec<String>,
    /// Addresses; empty admits all.
    pub addresses: Vec<IpAddr>,
}

impl Default for InterfaceFilter {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is done with temporary addresses (RFC 8981) where an interface has other IPv6 addresses of the same network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TemporaryAddresses {
    /// They are used, and the others are not, by which the machine could be followed (RFC 8445 section 5.1.1.1).
    #[default]
    Preferred,
    /// They are not used: for machines that are to be found where they were.
    Avoided,
    /// All are used. RFC 8445 section 5.1.1.1 forbids that: who knows one address then knows the other.
    Both,
}

impl InterfaceFilter {
    pub(crate) const DEFAULT: Self = Self {
        loopback: false,
        link_local: false,
        ipv4: true,
        ipv6: true,
        temporary: TemporaryAddresses::Preferred,
        names: Vec::new(),
        excluded: Vec::new(),
        addresses: Vec::new(),
    };

    /// Whether an address of an interface becomes a candidate.
    pub fn admits(&self, interface: &Interface, address: IpAddr) -> bool {
        self.keeps(interface, address)
            && !interface.deprecated.contains(&address)
            && !self.has_better(interface, address)
    }

    /// Whether a candidate of this address may go on, such as one that was deprecated meanwhile.
    pub(crate) fn keeps(&self, interface: &Interface, address: IpAddr) -> bool {
        let (family, link_local) = match address {
            IpAddr::V4(v4) => (self.ipv4, v4.is_link_local()),
            IpAddr::V6(v6) => (self.ipv6, v6.is_unicast_link_local()),
        };
        family
            && (self.names.is_empty() || self.names.contains(&interface.name))
            && !self.excluded.contains(&interface.name)
            && (self.addresses.is_empty() || self.addresses.contains(&address))
            && (self.loopback || !address.is_loopback())
            && (self.link_local || !link_local)
            && !address.is_unspecified()
            && !address.is_multicast()
            // RFC 8445 section 5.1.1.1: deprecated site-local and IPv4-compatible or -mapped
            // addresses must not become host candidates.
            && match address {
                IpAddr::V4(_) => true,
                IpAddr::V6(v6) => {
                    v6.segments()[0] & 0xffc0 != 0xfec0
                        && v6.to_ipv4_mapped().is_none()
                        && (v6.is_loopback() || v6.to_ipv4().is_none())
                }
            }
    }

    /// Whether the interface has an address of the same network and of the kind that is wanted instead.
    fn has_better(&self, interface: &Interface, address: IpAddr) -> bool {
        let IpAddr::V6(own) = address else {
            return false;
        };
        let is_temporary = |address: &IpAddr| interface.temporary.contains(address);
        let unwanted = match self.temporary {
            TemporaryAddresses::Preferred => false,
            TemporaryAddresses::Avoided => true,
            TemporaryAddresses::Both => return false,
        };
        // Prefixes that addresses are made under by the machine itself have 64 bits.
        let network = |address: Ipv6Addr| address.to_bits() >> 64;
        is_temporary(&address) == unwanted
            && interface.addresses.iter().any(|other| {
                matches!(other, IpAddr::V6(v6) if network(*v6) == network(own))
                    && is_temporary(other) != unwanted
                    && !interface.deprecated.contains(other)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "2001:db8::1";
    const TEMPORARY: &str = "2001:db8::abcd";
    const ELSEWHERE: &str = "2001:db8:1::1";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admitted(kind: TemporaryAddresses, deprecated: &[&str]) -> Vec<IpAddr> {
        let interface = Interface {
            addresses: ["192.0.2.1", STABLE, TEMPORARY, ELSEWHERE].map(ip).into(),
            temporary: vec![ip(TEMPORARY)],
            deprecated: deprecated.iter().map(|text| ip(text)).collect(),
            ..Interface::default()
        };
        let filter = InterfaceFilter {
            temporary: kind,
            ..InterfaceFilter::default()
        };
        let addresses = interface.addresses.iter().copied();
        addresses
            .filter(|address| filter.admits(&interface, *address))
            .collect()
    }

    #[test]
    fn of_a_network_either_temporary_or_stable_addresses_are_used() {
        use TemporaryAddresses::{Avoided, Both, Preferred};
        for (kind, deprecated, wanted) in [
            (Preferred, &[][..], &["192.0.2.1", TEMPORARY, ELSEWHERE][..]),
            (Avoided, &[], &["192.0.2.1", STABLE, ELSEWHERE]),
            (Both, &[], &["192.0.2.1", STABLE, TEMPORARY, ELSEWHERE]),
            // What is deprecated is neither used nor preferred.
            (Preferred, &[TEMPORARY], &["192.0.2.1", STABLE, ELSEWHERE]),
            (Avoided, &[STABLE], &["192.0.2.1", TEMPORARY, ELSEWHERE]),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|text| ip(text)).collect();
            assert_eq!(
                admitted(kind, deprecated),
                wanted,
                "{kind:?} {deprecated:?}"
            );
        }
    }
}
