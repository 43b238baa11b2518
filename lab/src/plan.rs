//! A topology as the machines, cables, addresses, routes and rules it takes: everything that building
//! does, decided before anything is done.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::address::{
    PUBLIC_PREFIX_LENGTH, gateway_v4, lan_v4, lan_v6, lower_ethernet, public_v4, upper_ethernet,
    wan_v6,
};
use crate::nat::Nat;
use crate::nat_rules::{NatRules, UDP_TIMEOUT_SECONDS, impairments, nat_firewall, v6_firewall};
use crate::node::{Node, Side, Uplink};
use crate::spec::{Flags, Kind, Spec};
use crate::topology::Topology;

/// Networks that the public internet does not route: dropped in the core, without an ICMP error.
const NOT_ROUTED: [&str; 4] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
];

/// Everything that building a topology does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) machines: BTreeMap<Node, Machine>,
    pub(crate) cables: Vec<Cable>,
    /// The router that runs the translator of `nat64`.
    pub(crate) translator: Option<Node>,
    /// Peers and server must cut their packets to the link's size themselves, because what drops packets or
    /// looks at their size has to see those that a real link would carry.
    pub(crate) whole_packets: bool,
}

/// What one machine is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Commands for `ip -batch`. A peer's bring up its eth0, and may be said again when that was lost.
    pub(crate) ip: Vec<String>,
    /// The same for the second interface of the kind `multi`.
    pub(crate) second: Vec<String>,
    /// Its rules, without the table `ip nat`.
    pub(crate) rules: String,
    /// The table `ip nat`.
    pub(crate) nat: Option<NatRules>,
    /// The uplink on which it holds the public IPv4 address.
    pub(crate) public: Option<Uplink>,
    /// When its connection tracking forgets a silent UDP flow; `None`: the kernel's default.
    pub(crate) udp_timeout_seconds: Option<u32>,
    /// Interfaces that carry only so many kbit/s.
    pub(crate) rates: Vec<(&'static str, u32)>,
}

/// Two interfaces joined to each other.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    /// The end nearer to the core.
    pub(crate) upper: (Node, &'static str),
    pub(crate) lower: (Node, &'static str),
    /// A wire is to be laid here, if the topology has wires.
    pub(crate) uplink: Option<Uplink>,
}

impl Plan {
    /// The plan for a topology that fits together.
    pub(crate) fn of(topology: &Topology) -> Self {
        let mut plan = Self::default();
        plan.core_and_server();
        plan.side(Side::A, &topology.a, topology);
        plan.side(Side::B, &topology.b, topology);
        plan.whole_packets = [&topology.a.flags, &topology.b.flags]
            .into_iter()
            .any(|flags| {
                flags.mtu.is_some()
                    || flags.loss_in_tenths.is_some()
                    || flags.loss_out_tenths.is_some()
            });
        plan
    }

    fn core_and_server(&mut self) {
        self.cable((Node::Core, "s0"), (Node::Server, "eth0"), None);
        self.ip(
            Node::Core,
            [
                "addr add 203.0.113.1/24 dev s0",
                "addr add 2001:db8:5::1/64 dev s0 nodad",
            ],
        );
        for network in NOT_ROUTED {
            self.ip(Node::Core, [format!("route add blackhole {network}")]);
        }
        self.ip(
            Node::Server,
            [
                "addr add 203.0.113.10/24 dev eth0",
                "addr add 203.0.113.11/24 dev eth0",
                "addr add 2001:db8:5::10/64 dev eth0 nodad",
                "addr add 2001:db8:5::11/64 dev eth0 nodad",
                "route add default via 203.0.113.1",
                "route add default via 2001:db8:5::1",
            ],
        );
    }

    fn side(&mut self, side: Side, spec: &Spec, topology: &Topology) {
        match spec.kind {
            Kind::Same => self.on_the_first_home_network(&topology.a),
            Kind::SameCgn => self.behind_the_first_carrier(&spec.flags),
            Kind::Open => {
                let peer = Node::peer(side);
                self.uplink(side, spec, peer, "eth0");
            }
            kind => {
                let home = Node::home(side);
                if let Kind::Cgn { outer, .. } = kind {
                    let carrier = Node::carrier(side);
                    self.uplink(side, spec, carrier, "wan");
                    self.carrier(carrier, outer, side, &spec.flags);
                    self.below_carrier(carrier, home, "lan0", "100.64.1");
                } else {
                    self.uplink(side, spec, home, "wan");
                }
                self.home(side, spec);
                if kind == Kind::Multi {
                    self.mobile_network();
                }
            }
        }
    }

    /// The cable from the core to a side, its public addresses, and what goes wrong on it.
    fn uplink(&mut self, side: Side, spec: &Spec, owner: Node, interface: &'static str) {
        let uplink = Uplink::of(side);
        let core_interface = uplink.interface();
        self.cable(
            (Node::Core, core_interface),
            (owner, interface),
            Some(uplink),
        );
        if spec.kind != Kind::V6Firewall {
            self.public_v4(uplink, owner, interface);
        }
        if spec.kind == Kind::Open || spec.kind.has_lan_v6() {
            let (wan, lan) = (wan_v6(side), lan_v6(side));
            let (upper, lower) = (format!("{wan}::1"), format!("{wan}::2"));
            self.ip(
                Node::Core,
                [
                    format!("addr add {upper}/64 dev {core_interface} nodad"),
                    neighbour(&lower, &lower_ethernet(uplink), core_interface),
                ],
            );
            self.ip(
                owner,
                [
                    format!("addr add {lower}/64 dev {interface} nodad"),
                    neighbour(&upper, &upper_ethernet(uplink), interface),
                    format!("route add default via {upper}"),
                ],
            );
            if spec.kind != Kind::Open && spec.kind != Kind::V6Broken {
                self.ip(Node::Core, [format!("route add {lan}::/64 via {wan}::2")]);
            }
        }
        self.impair(Node::Core, core_interface, owner, interface, &spec.flags);
    }

    fn public_v4(&mut self, uplink: Uplink, owner: Node, interface: &'static str) {
        let (gateway, address) = (gateway_v4(uplink), public_v4(uplink));
        let core_interface = uplink.interface();
        self.ip(
            Node::Core,
            [
                format!("addr add {gateway}/{PUBLIC_PREFIX_LENGTH} dev {core_interface}"),
                neighbour(
                    &address.to_string(),
                    &lower_ethernet(uplink),
                    core_interface,
                ),
            ],
        );
        self.ip(
            owner,
            [
                format!("addr add {address}/{PUBLIC_PREFIX_LENGTH} dev {interface}"),
                neighbour(&gateway.to_string(), &upper_ethernet(uplink), interface),
                format!("route add default via {gateway}"),
            ],
        );
        self.machine(owner).public = Some(uplink);
    }

    fn carrier(&mut self, carrier: Node, outer: Nat, side: Side, flags: &Flags) {
        self.nat(
            carrier,
            outer,
            public_v4(Uplink::of(side)),
            flags,
            flags.hairpin,
        );
        self.machine(carrier).rules += &nat_firewall(None);
    }

    /// The carrier's own network (RFC 6598) with one home router in it.
    fn below_carrier(
        &mut self,
        carrier: Node,
        home: Node,
        carrier_interface: &'static str,
        network: &str,
    ) {
        self.cable((carrier, carrier_interface), (home, "wan"), None);
        self.ip(
            carrier,
            [format!("addr add {network}.1/24 dev {carrier_interface}")],
        );
        self.ip(
            home,
            [
                format!("addr add {network}.2/24 dev wan"),
                format!("route add default via {network}.1"),
            ],
        );
    }

    /// The home router, its network, and the peer in it.
    fn home(&mut self, side: Side, spec: &Spec) {
        let Spec { kind, flags } = spec;
        let (home, peer) = (Node::home(side), Node::peer(side));
        self.home_network(home, peer);
        if kind.has_lan_v4() {
            let lan = lan_v4(side, flags.overlap);
            // With two ways out, each source address has a routing table of its own: `mobile_network`.
            let metric = if *kind == Kind::Multi {
                " dev eth0 metric 100"
            } else {
                ""
            };
            self.ip(home, [format!("addr add {lan}.1/24 dev lanbr")]);
            self.ip(
                peer,
                [
                    format!("addr add {lan}.10/24 dev eth0"),
                    format!("route add default via {lan}.1{metric}"),
                ],
            );
        }
        if kind.has_lan_v6() {
            let lan = lan_v6(side);
            self.ip(home, [format!("addr add {lan}::1/64 dev lanbr nodad")]);
            self.ip(
                peer,
                [
                    format!("addr add {lan}::10/64 dev eth0 nodad"),
                    format!("route add default via {lan}::1"),
                ],
            );
            self.machine(home).rules += &v6_firewall(flags.egress);
        }
        let nat = match *kind {
            Kind::Nat(nat) => Some((nat, public_v4(Uplink::of(side)), flags.hairpin)),
            Kind::Cgn { inner, .. } => Some((inner, Ipv4Addr::new(100, 64, 1, 2), false)),
            Kind::Dual | Kind::V6Broken | Kind::Multi | Kind::Nat64 => {
                Some((Nat::HOME, public_v4(Uplink::of(side)), flags.hairpin))
            }
            Kind::Open | Kind::Same | Kind::SameCgn | Kind::V6Firewall => None,
        };
        if let Some((nat, external, hairpin)) = nat {
            self.nat(home, nat, external, flags, hairpin);
            self.machine(home).rules += &nat_firewall(flags.egress);
        }
        if *kind == Kind::Nat64 {
            self.translator = Some(home);
        }
        self.machine(home).udp_timeout_seconds = Some(udp_timeout(flags));
    }

    /// A bridge, so that a second peer can join.
    fn home_network(&mut self, home: Node, peer: Node) {
        self.cable((home, "lan0"), (peer, "eth0"), None);
        self.ip(
            home,
            [
                "link add lanbr type bridge",
                "link set lanbr up",
                "link set lan0 master lanbr",
            ],
        );
    }

    fn on_the_first_home_network(&mut self, first: &Spec) {
        self.cable((Node::HomeA, "lan1"), (Node::B, "eth0"), None);
        self.ip(Node::HomeA, ["link set lan1 master lanbr"]);
        if first.kind.has_lan_v4() {
            let lan = lan_v4(Side::A, false);
            self.ip(
                Node::B,
                [
                    format!("addr add {lan}.11/24 dev eth0"),
                    format!("route add default via {lan}.1"),
                ],
            );
        }
        if first.kind.has_lan_v6() {
            let lan = lan_v6(Side::A);
            self.ip(
                Node::B,
                [
                    format!("addr add {lan}::11/64 dev eth0 nodad"),
                    format!("route add default via {lan}::1"),
                ],
            );
        }
    }

    fn behind_the_first_carrier(&mut self, flags: &Flags) {
        let (carrier, home) = (Node::CarrierA, Node::HomeB);
        self.below_carrier(carrier, home, "lan1", "100.64.2");
        self.impair(carrier, "lan1", home, "wan", flags);
        self.home_network(home, Node::B);
        let lan = lan_v4(Side::B, flags.overlap);
        self.ip(home, [format!("addr add {lan}.1/24 dev lanbr")]);
        self.ip(
            Node::B,
            [
                format!("addr add {lan}.10/24 dev eth0"),
                format!("route add default via {lan}.1"),
            ],
        );
        self.nat(home, Nat::Plain, Ipv4Addr::new(100, 64, 2, 2), flags, false);
        self.machine(home).rules += &nat_firewall(flags.egress);
    }

    /// The second way out of the kind `multi`: a mobile network behind a symmetric carrier NAT.
    fn mobile_network(&mut self) {
        let uplink = Uplink::Cell;
        self.cable(
            (Node::Core, uplink.interface()),
            (Node::Cell, "wan"),
            Some(uplink),
        );
        self.public_v4(uplink, Node::Cell, "wan");
        self.cable((Node::Cell, "lan0"), (Node::A, "eth1"), None);
        self.ip(Node::Cell, ["addr add 10.7.0.1/24 dev lan0"]);
        let lan = lan_v4(Side::A, false);
        self.ip(
            Node::A,
            [format!("route add default via {lan}.1 table 101")],
        );
        self.machine(Node::A).second = vec![
            format!("rule add from {lan}.10 lookup 101"),
            "addr add 10.7.0.10/24 dev eth1".to_owned(),
            "route add default via 10.7.0.1 dev eth1 metric 600".to_owned(),
            "rule add from 10.7.0.10 lookup 107".to_owned(),
            "route add default via 10.7.0.1 table 107".to_owned(),
        ];
        self.nat(
            Node::Cell,
            Nat::Symmetric,
            public_v4(uplink),
            &Flags::default(),
            false,
        );
        self.machine(Node::Cell).rules += &nat_firewall(None);
    }

    fn nat(&mut self, node: Node, nat: Nat, external: Ipv4Addr, flags: &Flags, hairpin: bool) {
        let udp_timeout_seconds = udp_timeout(flags);
        let machine = self.machine(node);
        machine.nat = Some(NatRules {
            nat,
            external,
            hairpin,
            udp_timeout_seconds,
        });
        machine.udp_timeout_seconds = Some(udp_timeout_seconds);
    }

    fn impair(
        &mut self,
        above: Node,
        down: &'static str,
        below: Node,
        up: &'static str,
        flags: &Flags,
    ) {
        self.machine(above).rules += &impairments(&format!("bent_{down}"), down, flags);
        if let Some(kbit) = flags.rate_kbit {
            self.machine(above).rates.push((down, kbit));
            self.machine(below).rates.push((up, kbit));
        }
    }

    fn cable(
        &mut self,
        upper: (Node, &'static str),
        lower: (Node, &'static str),
        uplink: Option<Uplink>,
    ) {
        if let Some(uplink) = uplink {
            self.ip(
                upper.0,
                [format!(
                    "link set {} address {}",
                    upper.1,
                    upper_ethernet(uplink)
                )],
            );
            self.ip(
                lower.0,
                [format!(
                    "link set {} address {}",
                    lower.1,
                    lower_ethernet(uplink)
                )],
            );
        }
        for (node, interface) in [upper, lower] {
            self.ip(node, [format!("link set {interface} up")]);
        }
        self.cables.push(Cable {
            upper,
            lower,
            uplink,
        });
    }

    fn ip<C: Into<String>>(&mut self, node: Node, commands: impl IntoIterator<Item = C>) {
        self.machine(node)
            .ip
            .extend(commands.into_iter().map(Into::into));
    }

    fn machine(&mut self, node: Node) -> &mut Machine {
        self.machines.entry(node).or_insert_with(|| Machine {
            ip: vec!["link set lo up".to_owned()],
            ..Machine::default()
        })
    }
}

/// The ends of an uplink know each other from the start. Otherwise the first packet would pay a round trip of the
/// wire for asking, and a whole second whenever the wire lost the question.
pub(crate) fn neighbour(address: &str, ethernet: &str, interface: &str) -> String {
    format!("neigh replace {address} lladdr {ethernet} dev {interface} nud permanent")
}

fn udp_timeout(flags: &Flags) -> u32 {
    flags.udp_timeout_seconds.unwrap_or(UDP_TIMEOUT_SECONDS)
}
