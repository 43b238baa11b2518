//! Where a demo happens: on this machine as it is, or in a laboratory of NATs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;

use nilas_ice::{Interface, InterfaceFilter};
use nilas_lab::{Kind, Lab, Node, SERVER_V4, SERVER_V6, Side, Topology};
use nilas_server::{DEFAULT_STUN_PORT, LocalAddresses, ServerConfig};

use super::relay::{self, Relay};
use crate::failure::Failure;
use crate::network;

/// In the laboratory, rendezvous and relay stand where even the strictest firewall lets TCP through, each on an
/// address of its own, and the relay also where most firewalls do.
const LAB_STRICT_PORT: u16 = 443;
const LAB_OPEN_PORT: u16 = 80;
/// The networks of the laboratory: documentation addresses, which relays refuse otherwise, and the outer
/// side of its translator.
const LAB_PEERS: [&str; 3] = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];

#[derive(Debug)]
pub(super) enum Place {
    /// This machine and its own network.
    Here,
    /// Network namespaces behind the kernel's NATs.
    Lab { lab: Box<Lab>, topology: Topology },
}

/// How a peer reaches the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub(super) stun: SocketAddr,
    /// A URL.
    pub(super) rendezvous: String,
    /// The URLs of the relay.
    pub(super) turn: Vec<String>,
}

impl Place {
    /// What a person should know before it begins.
    pub(super) fn introduction(&self) -> String {
        match self {
            Self::Here => {
                "two peers on this machine, a and b, and a server that introduces them".to_owned()
            }
            Self::Lab { topology, .. } => {
                let wire = topology.wire.as_ref().map(|wire| {
                    format!(
                        "; {} ms and {} % loss on each side's wire",
                        wire.delay.as_millis(),
                        wire.loss_percent
                    )
                });
                let Topology { a, b, .. } = topology;
                format!(
                    "peer a behind {a}, peer b behind {b}, in network namespaces{}",
                    wire.unwrap_or_default()
                )
            }
        }
    }

    /// Starts a thread on a machine of this place.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        node: Node,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Failure> {
        match self {
            Self::Here => std::thread::Builder::new()
                .name(node.to_string())
                .spawn(work)
                .map_err(Failure::internal),
            Self::Lab { lab, .. } => lab.spawn_in(node, work).map_err(Failure::usage),
        }
    }

    /// What the demo's relay is to be.
    pub(super) fn relay(&self) -> Result<Relay, Failure> {
        match self {
            Self::Here => Relay::new(&[]),
            Self::Lab { .. } => Relay::new(&lab_addresses(0)),
        }
    }

    /// What the server is to be, with this relay if there is one.
    pub(super) fn server_config(&self, relay: Option<&Relay>) -> Result<ServerConfig, Failure> {
        let mut config = match self {
            Self::Here => ServerConfig::on(&own_addresses(&network::interfaces()?), 0, 0),
            Self::Lab { .. } => {
                let mut config = ServerConfig::on(&lab_addresses(0), DEFAULT_STUN_PORT, 0);
                let at = |ip: &IpAddr, port| SocketAddr::new(*ip, port);
                let rendezvous = lab_addresses(1);
                config.rendezvous = rendezvous
                    .iter()
                    .map(|ip| at(ip, LAB_STRICT_PORT))
                    .collect();
                config
            }
        };
        let Some(relay) = relay else {
            return Ok(config);
        };
        match self {
            Self::Here => {
                // The peers may use any address of this machine, and the relay reaches no other.
                let interfaces = network::interfaces()?;
                let own = interfaces
                    .iter()
                    .flat_map(|interface| &interface.addresses)
                    .map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
                let peers: Vec<_> = own.chain(["127.0.0.0/8".to_owned()]).collect();
                let addresses: Vec<_> = config.stun_udp.iter().map(SocketAddr::ip).collect();
                relay.configure(&mut config, &addresses, &peers)?;
            }
            Self::Lab { .. } => {
                let addresses = lab_addresses(0);
                for ip in &addresses {
                    config.stun_tcp.push(SocketAddr::new(*ip, LAB_OPEN_PORT));
                    config.tls.push(SocketAddr::new(*ip, LAB_STRICT_PORT));
                }
                relay.configure(&mut config, &addresses, &LAB_PEERS.map(str::to_owned))?;
            }
        }
        Ok(config)
    }

    /// Which of the server's addresses a peer uses: those of its own family.
    pub(super) fn server_for(&self, side: Side, server: &LocalAddresses) -> Option<ServerAddress> {
        let ipv6 = match self {
            Self::Here => false,
            Self::Lab { topology, .. } => {
                matches!(topology.side(side).kind, Kind::V6Firewall | Kind::Nat64)
            }
        };
        let choose = |addresses: &[SocketAddr]| {
            let of_family = addresses.iter().find(|address| address.is_ipv6() == ipv6);
            of_family.or_else(|| addresses.first()).copied()
        };
        let stun = choose(&server.stun_udp)?;
        let at = |port| SocketAddr::new(stun.ip(), port);
        let egress = match self {
            Self::Here => None,
            Self::Lab { topology, .. } => topology.side(side).flags.egress,
        };
        // Each way is an allocation, and pairs of its own: where UDP gets through, it is all that is asked.
        let mut turn = vec![relay::url(stun, "udp")];
        if egress.is_some() {
            turn.push(relay::url(at(LAB_OPEN_PORT), "tcp"));
            turn.push(relay::url(at(LAB_STRICT_PORT), "tls"));
        }
        Some(ServerAddress {
            stun,
            rendezvous: format!("ws://{}", choose(&server.rendezvous)?),
            turn,
        })
    }
}

/// An address of this machine of each family that there is, such as its peers have: the default route's before others. A
/// socket at any of them reaches no server on loopback.
fn own_addresses(interfaces: &[Interface]) -> Vec<IpAddr> {
    let filter = InterfaceFilter::default();
    let is_ipv4 = IpAddr::is_ipv4 as fn(&IpAddr) -> bool;
    let of_family = |wanted: fn(&IpAddr) -> bool| {
        let admitted = interfaces.iter().flat_map(|interface| {
            let of_it = interface.addresses.iter();
            let of_it = of_it.filter(|ip| wanted(ip) && filter.admits(interface, **ip));
            of_it.map(|ip| (!interface.default_route, *ip))
        });
        admitted.min_by_key(|(is_other, _)| *is_other)
    };
    let own = [is_ipv4, IpAddr::is_ipv6].map(of_family);
    let own: Vec<_> = own.into_iter().flatten().map(|(_, ip)| ip).collect();
    match own.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => own,
    }
}

/// The first or the second address of each family that the laboratory's server has.
fn lab_addresses(which: usize) -> [IpAddr; 2] {
    [IpAddr::V4(SERVER_V4[which]), IpAddr::V6(SERVER_V6[which])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_stands_where_the_peers_are() {
        let interface = |name: &str, addresses: &[&str], default_route| Interface {
            name: name.to_owned(),
            addresses: addresses
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            default_route,
            ..Interface::default()
        };
        let own = |interfaces: &[Interface]| {
            let own = own_addresses(interfaces);
            own.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        let loopback = interface("lo", &["127.0.0.1", "::1"], false);
        let bridge = interface("br0", &["172.17.0.1"], false);
        let wired = interface("eth0", &["fe80::1", "192.0.2.1", "2001:db8::1"], true);
        assert_eq!(own(std::slice::from_ref(&loopback)), ["127.0.0.1", "::1"]);
        assert_eq!(own(&[loopback.clone(), bridge.clone()]), ["172.17.0.1"]);
        assert_eq!(
            own(&[loopback, bridge, wired]),
            ["192.0.2.1", "2001:db8::1"]
        );
    }

    #[test]
    fn a_peer_uses_the_server_s_address_of_its_family() {
        let addresses: Vec<SocketAddr> = ["127.0.0.1:1", "[::1]:2"]
            .map(|text| text.parse().expect("an address"))
            .into();
        let listening = |udp: &[SocketAddr], rendezvous: &[SocketAddr]| {
            let mut listening = LocalAddresses::default();
            listening.stun_udp = udp.to_vec();
            listening.rendezvous = rendezvous.to_vec();
            listening
        };
        let server = Place::Here
            .server_for(Side::A, &listening(&addresses, &addresses))
            .expect("there is one");
        assert_eq!(
            server,
            ServerAddress {
                stun: addresses[0],
                rendezvous: "ws://127.0.0.1:1".to_owned(),
                turn: vec!["turn:127.0.0.1:1?transport=udp".to_owned()],
            }
        );
        let only_v6 = Place::Here.server_for(Side::A, &listening(&addresses[1..], &addresses[1..]));
        assert_eq!(
            only_v6.map(|server| server.rendezvous),
            Some("ws://[::1]:2".to_owned())
        );
        assert_eq!(
            Place::Here.server_for(Side::A, &listening(&[], &addresses)),
            None
        );
    }
}
