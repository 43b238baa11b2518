//! A plan's network, built.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nilas_ice::{AgentConfig, AgentError, MdnsCandidates, Mode, StreamTransport, TurnTransport};
use nilas_turn::client::Credentials;

use super::plan::{Names, Net, Plan, Servers, Uplink};
use crate::agents::Agent;
use crate::firewall::{Firewall, Ports};
use crate::link::Link;
use crate::router::Router;
use crate::sessions::Session;
use crate::signaling::{Signaling, name_of};
use crate::turn_server::TurnServer;
use crate::world::{NodeId, Realm, World};

/// The server.
pub(super) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 3478);
/// The same, over TLS.
const TLS_PORT: u16 = 443;
/// Both peers have the same.
const USER: &str = "user";
const PASSWORD: &str = "password";
/// The prefix of all translators.
const NAT64_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0x64, 0, 0, 0, 0);

/// An interface as it is now.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) realm: Realm,
    pub(super) addresses: Vec<IpAddr>,
    link: Link,
    /// What stands nearest to the Internet and translates.
    pub(super) outermost: Option<NodeId>,
    /// How often it, or what is outermost, was given another address.
    changes: u8,
}

/// A peer's end of the session.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: NodeId,
    /// Unless its one component is an agent on its own.
    pub(super) session: Option<Session>,
    /// Stream by stream.
    pub(super) components: Vec<Agent>,
}

/// Everything that a plan has built.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) server: Option<NodeId>,
    pub(super) peers: [End; 2],
    pub(super) ports: [Vec<Port>; 2],
    /// The NATs of each peer.
    pub(super) nats: [Vec<NodeId>; 2],
}

impl End {
    fn new(
        world: &mut World,
        host: NodeId,
        config: &AgentConfig,
        streams: &[u16],
    ) -> Result<Self, AgentError> {
        if streams == [1] {
            return Ok(Self {
                host,
                session: None,
                components: vec![world.add_agent(host, config.clone())?],
            });
        }
        let session = world.add_session(host, config.clone(), streams[0])?;
        for components in &streams[1..] {
            world.with_session(session, |session, now| {
                session.add_stream(now, config.clone(), *components)
            })??;
        }
        Ok(Self {
            host,
            session: Some(session),
            components: world.components(session),
        })
    }

    /// Begins to gather.
    pub(super) fn gather(&self, world: &mut World) -> Result<(), AgentError> {
        match self.session {
            Some(session) => world.with_session(session, |session, now| session.gather(now)),
            None => world.gather(self.components[0]),
        }
    }

    /// Restarts all its streams.
    pub(super) fn restart(&self, world: &mut World) -> Result<(), AgentError> {
        let Some(session) = self.session else {
            return world.with_agent(self.components[0], |mut agent, now| agent.restart(now));
        };
        world.with_session(session, |session, now| {
            (0..session.streams()).try_for_each(|stream| session.restart(now, stream))
        })?
    }

    /// Tells the other all that it has to tell, and hears what that tells.
    pub(super) fn signal(
        &self,
        other: &Self,
        world: &mut World,
        signaling: Signaling,
    ) -> Result<(), AgentError> {
        match (self.session, other.session) {
            (Some(a), Some(b)) => world.signal_between_sessions(a, b, signaling),
            _ => world.signal_between(self.components[0], other.components[0], signaling),
        }
    }
}

impl Network {
    pub(super) fn build(plan: &Plan, world: &mut World) -> Self {
        let link = Link::new(Duration::from_millis(5));
        let server = match plan.servers {
            Servers::None => None,
            Servers::Stun => Some(world.add_stun_server(Realm::INTERNET, SERVER, link)),
            Servers::Turn(_) => {
                let turn = TurnServer::new(USER, PASSWORD)
                    .expect("letters make a name")
                    .on_tls(&[TLS_PORT]);
                Some(world.add_turn_server(Realm::INTERNET, &[SERVER.ip()], link, turn))
            }
        };
        let mut nats = [Vec::new(), Vec::new()];
        let mut ports = [Vec::new(), Vec::new()];
        let peers = [0, 1].map(|peer| {
            let mut host = None;
            for (number, uplink) in plan.peers[peer].interfaces.iter().enumerate() {
                let port = reach(world, uplink, (peer, number), &mut nats[peer]);
                let (realm, addresses, link) = (port.realm, &port.addresses, port.link);
                let node = match host {
                    None => world.add_host(realm, addresses, link),
                    Some(host) => {
                        world.add_interface(host, realm, addresses, link);
                        host
                    }
                };
                host = Some(node);
                world.set_interface_cost(node, number, uplink.cost);
                ports[peer].push(port);
            }
            let host = host.expect("a plan's peer has an interface");
            End::new(world, host, &config(plan, peer), &plan.streams)
                .expect("a new engine has room")
        });
        Self {
            server,
            peers,
            ports,
            nats,
        }
    }

    /// An interface is lost.
    pub(super) fn lose(&self, world: &mut World, peer: usize, interface: usize) {
        world.remove_interface(self.peers[peer].host, interface);
    }

    /// An interface is there again, with the addresses it had or with others.
    pub(super) fn plug_in(
        &mut self,
        world: &mut World,
        peer: usize,
        interface: usize,
        moved: bool,
    ) {
        let port = &mut self.ports[peer][interface];
        if moved {
            port.changes += 1;
            for address in &mut port.addresses {
                *address = further(*address, 1);
            }
        }
        world
            .move_interface(
                self.peers[peer].host,
                interface,
                port.realm,
                &port.addresses,
                port.link,
            )
            .expect("nobody else has these addresses");
    }

    /// The outermost NATs of a peer get other addresses.
    pub(super) fn renumber(&mut self, world: &mut World, peer: usize) {
        for (number, port) in self.ports[peer].iter_mut().enumerate() {
            let Some(router) = port.outermost else {
                continue;
            };
            port.changes += 1;
            let address = further(outside((peer, number)), port.changes);
            world
                .renumber(router, &[address])
                .expect("nobody else has this address");
        }
    }

    /// Whether an address is one of the peer's machine itself, on the Internet.
    pub(super) fn is_own_address(&self, peer: usize, address: IpAddr) -> bool {
        let mut ports = self.ports[peer].iter();
        ports.any(|port| port.addresses.contains(&address))
    }

    /// The address that a name stands for.
    pub(super) fn address_of(&self, name: &str) -> Option<IpAddr> {
        let mut all = self.ports.iter().flatten().flat_map(|port| &port.addresses);
        all.find(|address| name_of(**address) == name).copied()
    }

    /// Names lead to the addresses that they stand for.
    pub(super) fn tell_names(&self, plan: &Plan, world: &mut World) {
        if plan.names != Names::Hidden {
            return;
        }
        for address in self.ports.iter().flatten().flat_map(|port| &port.addresses) {
            world.add_name(name_of(*address), &[*address]);
        }
    }
}

fn config(plan: &Plan, number: usize) -> AgentConfig {
    let peer = &plan.peers[number];
    let mut config = AgentConfig::new(peer.role);
    config.tcp = peer.tcp;
    config.continual = peer.continual;
    config.mdns = match plan.names {
        Names::Addresses => MdnsCandidates::Off,
        Names::Hidden | Names::Lost => MdnsCandidates::Resolve,
    };
    if peer.lite {
        config.mode = Mode::Lite;
        return config;
    }
    if plan.servers != Servers::None {
        config.stun_servers.push(SERVER.into());
    }
    if let Servers::Turn(transport) = plan.servers {
        let port = match transport {
            TurnTransport::Stream(StreamTransport::Tls) => TLS_PORT,
            _ => SERVER.port(),
        };
        let credentials = Credentials {
            username: USER.into(),
            password: PASSWORD.into(),
        };
        let host = SERVER.ip().to_string();
        let relay = nilas_ice::TurnServer::new(host, port, transport, credentials);
        config.turn_servers.push(relay);
    }
    config
}

/// Builds what stands between an interface and the Internet.
fn reach(
    world: &mut World,
    uplink: &Uplink,
    (peer, interface): (usize, usize),
    nats: &mut Vec<NodeId>,
) -> Port {
    let outside = outside((peer, interface));
    let prefix = Ipv6Net::new_assert(
        Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xa0 + peer as u16,
            interface as u16,
            0,
            0,
            0,
            0,
        ),
        64,
    );
    let v6 = IpAddr::V6(Ipv6Addr::from_bits(prefix.network().to_bits() | 0x10));
    let mut port = Port {
        realm: Realm::INTERNET,
        addresses: Vec::new(),
        link: uplink.link,
        outermost: None,
        changes: 0,
    };
    let mut v4 = uplink.has_v4().then_some(outside);
    let mut translators = uplink.nats.into_iter().flatten().rev();
    let guarded = matches!(uplink.net, Net::Guarded | Net::Translated);
    let first = match uplink.net {
        Net::Translated => Some(translators.next().unwrap_or_default()),
        _ => translators.next(),
    };
    // The outermost first. It has the firewall as well.
    if first.is_some() || guarded || !uplink.udp {
        let firewall = if guarded {
            Firewall::stateful()
        } else {
            Firewall::open()
        };
        let mut router = Router::new().with_firewall(Firewall {
            udp: if uplink.udp { Ports::All } else { Ports::None },
            ..firewall
        });
        match first {
            Some(nat) => {
                router = router.with_nat(&[outside], nat);
                v4 = v4.map(|_| inside((peer, interface), 0));
            }
            None => router = router.with_prefix(network_of(outside)),
        }
        if uplink.has_v6() {
            router = router.with_prefix(IpNet::V6(prefix));
        }
        if uplink.net == Net::Translated {
            router = router.with_nat64(Ipv6Net::new_assert(NAT64_PREFIX, 96));
        }
        let (node, realm) = world.add_router(Realm::INTERNET, uplink.link, router);
        if first.is_some() {
            nats.push(node);
            port.outermost = Some(node);
        }
        (port.realm, port.link) = (realm, Link::default());
    }
    for (depth, nat) in translators.enumerate() {
        let address = inside((peer, interface), depth as u8);
        let (node, realm) = world.add_nat(port.realm, address, port.link, nat);
        nats.push(node);
        v4 = v4.map(|_| inside((peer, interface), depth as u8 + 1));
        (port.realm, port.link) = (realm, Link::default());
    }
    port.addresses.extend(v4);
    port.addresses.extend(uplink.has_v6().then_some(v6));
    port
}

/// RFC 6052 section 2.2: the IPv4 address that an address under the prefix of all translators stands for.
pub(super) fn untranslated(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.segments()[..6] == NAT64_PREFIX.segments()[..6] => {
            Ipv4Addr::from_bits(v6.to_bits() as u32).into()
        }
        other => other,
    }
}

/// The address by which the Internet knows an interface, or the NAT before it.
fn outside((peer, interface): (usize, usize)) -> IpAddr {
    IpAddr::from([203, 0, 113, (96 * peer + 16 * interface) as u8 + 17])
}

/// The network of such an address.
fn network_of(outside: IpAddr) -> IpNet {
    match outside {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, 28).trunc()),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 64).into(),
    }
}

/// Addresses may be the same in two realms, but not in two of one machine.
fn inside((_, interface): (usize, usize), depth: u8) -> IpAddr {
    IpAddr::from([10, depth, interface as u8, 2])
}

/// Some addresses further in the same network.
fn further(address: IpAddr, by: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + u32::from(by)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + u128::from(by)).into(),
    }
}
