//! The routers, firewalls and the host that a word stands for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::{Access, AccessError, Egress, Flags, Kind};
use crate::firewall::{Firewall, Ports};
use crate::link::Link;
use crate::nat::{Dependence, Nat, PortAssignment};
use crate::router::Router;
use crate::world::{NodeId, Realm, World};

/// Which of two peers: each has addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a session has two")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// A peer with its way to the internet, made by [`World::add_peer`](crate::World::add_peer).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// What it was made from.
    pub access: Access,
    /// The host on which an agent can be.
    pub host: NodeId,
    /// The realm that the host's first interface is in.
    pub home: Realm,
    /// The home router, where there is one.
    pub router: Option<NodeId>,
    /// The carrier's NAT and the realm behind it, where there is one.
    pub carrier: Option<(NodeId, Realm)>,
    /// The NAT of the second way out, where there is one.
    pub cell: Option<NodeId>,
}

/// The prefix of the kind `nat64`, as in the laboratory: not the well-known 64:ff9b::/96.
const NAT64_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0x64, 0, 0, 0, 0);

impl Side {
    const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    const fn public_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number())
    }

    /// The address of the second way out.
    const fn cell_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 128 + self.number())
    }

    /// The IPv6 network that the peer is in.
    fn prefix_v6(self) -> Ipv6Net {
        let network = Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xa0 + u16::from(self.number()),
            0,
            0,
            0,
            0,
            0,
        );
        Ipv6Net::new_assert(network, 64)
    }

    fn host_v6(self, host: u8) -> IpAddr {
        Ipv6Addr::from_bits(self.prefix_v6().network().to_bits() | u128::from(host)).into()
    }

    fn host_v4(self, host: u8, overlap: bool) -> IpAddr {
        let network = if overlap { 1 } else { self.number() };
        [192, 168, network, host].into()
    }
}

impl World {
    /// A host and all that stands between it and the internet, as an access says. `uplink` is the link by which
    /// the outermost of it hangs on the internet; all that is nearer to the host takes no time. `first` is the
    /// peer that was made before, where there is one: `same` and `samecgn` are seen from it.
    ///
    /// Addresses are those of documentation: 192.0.2.1 and .129 and 2001:db8:a1::/64 for side A, 192.0.2.2 and
    /// .130 and 2001:db8:a2::/64 for side B; homes are 192.168.1.0/24 and 192.168.2.0/24.
    ///
    /// ```
    /// use nilas_sim::{Link, Side, World};
    ///
    /// let mut world = World::new(1);
    /// let laptop = world.add_peer(Side::A, "dual+udpblock".parse()?, Link::default(), None)?;
    /// let phone = world.add_peer(Side::B, "cgn:plain:sym".parse()?, Link::default(), Some(&laptop))?;
    /// assert_ne!(laptop.home, phone.home);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The access cannot be that of a first peer, or not beside this one.
    ///
    /// # Panics
    /// If something in the world has one of the addresses already.
    pub fn add_peer(
        &mut self,
        side: Side,
        access: Access,
        uplink: Link,
        first: Option<&Peer>,
    ) -> Result<Peer, AccessError> {
        match first {
            Some(first) => access.check_beside(first.access)?,
            None if matches!(access.kind, Kind::Same | Kind::SameCgn) => {
                return Err(AccessError::First(access));
            }
            None => {}
        }
        let mut builder = Builder {
            side,
            access,
            uplink: bent(uplink, &access.flags),
            world: self,
        };
        Ok(match (access.kind, first) {
            (Kind::Same, Some(first)) => builder.same_home(first),
            (Kind::SameCgn, Some(first)) => builder.same_carrier(first),
            (Kind::Cgn { inner, outer }, _) => builder.behind_carrier(inner, outer),
            _ => builder.alone(),
        })
    }
}

/// A peer while it is built.
struct Builder<'a> {
    side: Side,
    access: Access,
    uplink: Link,
    world: &'a mut World,
}

impl Builder<'_> {
    fn alone(&mut self) -> Peer {
        let (side, flags) = (self.side, self.access.flags);
        let v4 = IpAddr::V4(side.public_v4());
        let behind_nat = side.host_v4(10, flags.overlap);
        let v6 = side.host_v6(10);
        let prefix = IpNet::V6(side.prefix_v6());
        let home_nat = |router: Router, nat| router.with_nat(&[v4], self.nat(nat, flags.hairpin));
        let router = Router::new();
        let stateful = self.firewall(Firewall::stateful());
        let stateless = self.firewall(Firewall::open());
        let (router, addresses) = match self.access.kind {
            Kind::Open if flags.egress.is_none() => {
                let host = self.world.add_host(Realm::INTERNET, &[v4, v6], self.uplink);
                return self.peer(host, Realm::INTERNET, None, None);
            }
            Kind::Open => {
                let router = router.with_prefix(v4.into()).with_prefix(prefix);
                (router.with_firewall(stateless), vec![v4, v6])
            }
            Kind::V4Firewall => {
                let router = router.with_prefix(v4.into());
                (router.with_firewall(stateful), vec![v4])
            }
            Kind::V6Firewall => {
                let router = router.with_prefix(prefix);
                (router.with_firewall(stateful), vec![v6])
            }
            Kind::Nat64 => {
                let under = Ipv6Net::new_assert(NAT64_PREFIX, 96);
                let router = home_nat(router, home()).with_nat64(under);
                let router = router.with_prefix(prefix).with_firewall(stateful);
                (router, vec![v6])
            }
            Kind::Dual | Kind::V6Broken | Kind::Multi => {
                let mut router = home_nat(router, home())
                    .with_prefix(prefix)
                    .with_firewall(stateful);
                if self.access.kind == Kind::V6Broken {
                    router = router.without_way_back();
                }
                (router, vec![behind_nat, v6])
            }
            Kind::Nat(nat) => {
                let router = home_nat(router, nat).with_firewall(stateless);
                (router, vec![behind_nat])
            }
            Kind::Cgn { .. } | Kind::Same | Kind::SameCgn => {
                unreachable!("these do not stand alone")
            }
        };
        let (router, home) = self.world.add_router(Realm::INTERNET, self.uplink, router);
        let host = self.world.add_host(home, &addresses, Link::default());
        let mut peer = self.peer(host, home, Some(router), None);
        if self.access.kind == Kind::Multi {
            let address = IpAddr::V4(side.cell_v4());
            let nat = self.nat(symmetric(), false);
            let (cell, mobile) = self
                .world
                .add_nat(Realm::INTERNET, address, self.uplink, nat);
            let own = [IpAddr::from([10, 7, 0, 9 + side.number()])];
            self.world
                .add_interface(host, mobile, &own, Link::default());
            peer.cell = Some(cell);
        }
        peer
    }

    fn behind_carrier(&mut self, inner: Nat, outer: Nat) -> Peer {
        let public = IpAddr::V4(self.side.public_v4());
        let nat = self.nat(outer, self.access.flags.hairpin);
        let (carrier, behind) = self
            .world
            .add_nat(Realm::INTERNET, public, self.uplink, nat);
        self.home_behind(inner, (carrier, behind), Link::default())
    }

    fn same_home(&mut self, first: &Peer) -> Peer {
        let has = |ipv4| {
            let addresses = self.world.addresses_of(first.host);
            addresses.iter().any(|ip| ip.is_ipv4() == ipv4)
        };
        let addresses: Vec<_> = [
            has(true).then(|| Side::A.host_v4(11, false)),
            has(false).then(|| Side::A.host_v6(11)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let host = self.world.add_host(first.home, &addresses, Link::default());
        self.peer(host, first.home, first.router, first.carrier)
    }

    fn same_carrier(&mut self, first: &Peer) -> Peer {
        let carrier = first
            .carrier
            .expect("checked: the first peer is behind a carrier");
        self.home_behind(home(), carrier, bent(Link::default(), &self.access.flags))
    }

    /// A home router behind a carrier's NAT.
    fn home_behind(&mut self, nat: Nat, carrier: (NodeId, Realm), link: Link) -> Peer {
        // RFC 6598: the carrier's own network.
        let address = IpAddr::from([100, 64, self.side.number(), 2]);
        let router = Router::new()
            .with_nat(&[address], self.nat(nat, false))
            .with_firewall(self.firewall(Firewall::open()));
        let (router, home) = self.world.add_router(carrier.1, link, router);
        let own = self.side.host_v4(10, self.access.flags.overlap);
        let host = self.world.add_host(home, &[own], Link::default());
        self.peer(host, home, Some(router), Some(carrier))
    }

    const fn peer(
        &self,
        host: NodeId,
        home: Realm,
        router: Option<NodeId>,
        carrier: Option<(NodeId, Realm)>,
    ) -> Peer {
        Peer {
            access: self.access,
            host,
            home,
            router,
            carrier,
            cell: None,
        }
    }

    fn nat(&self, mut nat: Nat, hairpin: bool) -> Nat {
        nat.hairpin |= hairpin;
        nat.lifetime = self.access.flags.udp_timeout();
        nat
    }

    fn firewall(&self, mut firewall: Firewall) -> Firewall {
        firewall.lifetime = self.access.flags.udp_timeout();
        if let Some(egress) = self.access.flags.egress {
            firewall.udp = Ports::None;
            firewall.tcp = Egress::tcp(egress);
        }
        firewall
    }
}

/// The common home router: what `plain` is.
const fn home() -> Nat {
    let mut nat = Nat::new(
        Dependence::EndpointIndependent,
        Dependence::AddressAndPortDependent,
    );
    nat.hairpin = false;
    nat.ports = PortAssignment::Preserving;
    nat
}

/// What `sym` is.
const fn symmetric() -> Nat {
    let mut nat = Nat::new(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    nat.hairpin = false;
    nat.ports = PortAssignment::Random;
    nat
}

/// An uplink with what the flags make of it.
fn bent(mut link: Link, flags: &Flags) -> Link {
    let share = |tenths: u16| f64::from(tenths) / 1_000.0;
    for (wire, loss) in [
        (&mut link.up, flags.loss_out_tenths),
        (&mut link.down, flags.loss_in_tenths),
    ] {
        if let Some(tenths) = loss {
            wire.loss = share(tenths);
        }
        if let Some(mtu) = flags.mtu {
            wire.mtu = Some(mtu);
        }
        if let Some(kbit) = flags.rate_kbit {
            wire.bits_per_second = Some(u64::from(kbit) * 1_000);
        }
    }
    link
}
