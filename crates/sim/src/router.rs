//! Routers: what stands between a realm and those behind it, with or without NATs and firewalls.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use rand_chacha::ChaCha8Rng;

use crate::error::WorldError;
use crate::firewall::{Firewall, FirewallState};
use crate::nat::{Nat, NatState};
use crate::world::{NodeId, NodeKind, Realm, World};

/// What a router is to be, for [`World::add_router`](crate::World::add_router).
///
/// A router has one link to the realm outside, and one realm or several inside. A family that it neither
/// translates nor routes does not pass.
///
/// ```
/// use nilas_sim::{Firewall, Link, Nat, Realm, Router, World};
///
/// // IPv4 behind a NAT, IPv6 behind a firewall: the usual home.
/// let mut world = World::new(1);
/// let router = Router::new()
///     .with_nat(&["203.0.113.7".parse()?], Nat::default())
///     .with_prefix("2001:db8:a1::/64".parse()?)
///     .with_firewall(Firewall::stateful());
/// let (_router, home) = world.add_router(Realm::INTERNET, Link::default(), router);
/// world.add_host(home, &["192.168.1.2".parse()?, "2001:db8:a1::2".parse()?], Link::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    nats: Vec<(Vec<IpAddr>, Nat)>,
    prefixes: Vec<IpNet>,
    announced: bool,
    firewall: Firewall,
    nat64: Option<Ipv6Net>,
}

impl Router {
    /// A router that lets nothing pass yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nats: Vec::new(),
            prefixes: Vec::new(),
            announced: true,
            firewall: Firewall::open(),
            nat64: None,
        }
    }

    /// The same router with a NAT that has these outside addresses, all of one family.
    #[must_use]
    pub fn with_nat(mut self, addresses: &[IpAddr], nat: Nat) -> Self {
        self.nats.push((addresses.to_vec(), nat));
        self
    }

    /// The same router with a network inside that the realm outside knows: its addresses are not translated.
    #[must_use]
    pub fn with_prefix(mut self, prefix: IpNet) -> Self {
        self.prefixes.push(prefix);
        self
    }

    /// The same router, but outside nobody has a way to its prefixes: what goes out is never answered.
    #[must_use]
    pub const fn without_way_back(mut self) -> Self {
        self.announced = false;
        self
    }

    /// The same router with a firewall.
    #[must_use]
    pub fn with_firewall(mut self, firewall: Firewall) -> Self {
        self.firewall = firewall;
        self
    }

    /// The same router as a translator of IPv6 inside to IPv4 outside (RFC 6146) under a prefix of 96 bits, such as
    /// 64:ff9b::/96 (RFC 6052 section 2.1). It takes the addresses of the router's IPv4 NAT, and names that have
    /// IPv4 addresses only are resolved under the prefix (DNS64, RFC 6147).
    #[must_use]
    pub const fn with_nat64(mut self, prefix: Ipv6Net) -> Self {
        self.nat64 = Some(prefix);
        self
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// A router at work.
#[derive(Debug)]
pub(crate) struct RouterState {
    pub(crate) nats: Vec<NatState>,
    /// The realms inside, each with its networks as far as they are known.
    pub(crate) insides: Vec<(Realm, Vec<IpNet>)>,
    /// What is routed and not translated.
    pub(crate) routed: Vec<IpNet>,
    pub(crate) firewall: FirewallState,
    pub(crate) nat64: Option<Ipv6Net>,
}

impl RouterState {
    /// The NAT for packets to a family.
    pub(crate) fn nat(&mut self, ipv4: bool) -> Option<&mut NatState> {
        self.nats.iter_mut().find(|nat| nat.is_ipv4() == ipv4)
    }

    /// Whether what comes from an address inside has a way out.
    pub(crate) fn passes(&self, inside: IpAddr) -> bool {
        self.is_routed(inside)
            || self
                .nats
                .iter()
                .any(|nat| nat.is_ipv4() == inside.is_ipv4())
            || (inside.is_ipv6() && self.nat64.is_some())
    }

    pub(crate) fn is_routed(&self, address: IpAddr) -> bool {
        self.routed.iter().any(|prefix| prefix.contains(&address))
    }

    /// The realm inside in which an address is looked for.
    pub(crate) fn inside_of(&self, address: IpAddr) -> Realm {
        let known = self.subnet_of(address);
        // A router is made with a realm inside.
        known.unwrap_or(self.insides[0].0)
    }

    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<Realm> {
        let holds = |(_, networks): &&(Realm, Vec<IpNet>)| {
            networks.iter().any(|network| network.contains(&address))
        };
        self.insides.iter().find(holds).map(|(realm, _)| *realm)
    }

    /// RFC 6052 section 2.2: the IPv4 address that an address under the prefix stands for.
    pub(crate) fn extracted(&self, address: IpAddr) -> Option<IpAddr> {
        let (IpAddr::V6(v6), prefix) = (address, self.nat64?) else {
            return None;
        };
        prefix
            .contains(&v6)
            .then(|| Ipv4Addr::from_bits(v6.to_bits() as u32).into())
    }
}

/// RFC 6052 section 2.2: an IPv4 address under a prefix of 96 bits.
pub(crate) fn embedded(prefix: Ipv6Net, address: Ipv4Addr) -> IpAddr {
    Ipv6Addr::from_bits(prefix.network().to_bits() | u128::from(address.to_bits())).into()
}

impl World {
    /// A router with one link to the realm outside, and the realm behind it.
    ///
    /// # Panics
    /// As [`try_add_router`](Self::try_add_router) refuses.
    pub fn add_router(
        &mut self,
        outside: Realm,
        link: crate::Link,
        router: Router,
    ) -> (NodeId, Realm) {
        self.try_add_router(outside, link, router)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A router with one link to the realm outside, and the realm behind it.
    ///
    /// # Errors
    /// An address or a prefix is somebody else's already; a NAT has no address, or addresses of both families; two
    /// NATs are of one family; the translator to IPv4 has no IPv4 NAT or a prefix that has not 96 bits.
    pub fn try_add_router(
        &mut self,
        outside: Realm,
        link: crate::Link,
        router: Router,
    ) -> Result<(NodeId, Realm), WorldError> {
        let random = self.random_of_next_node();
        let node = self.next_node();
        let Router {
            nats,
            prefixes,
            announced,
            firewall,
            nat64,
        } = router;
        for (number, (pool, _)) in nats.iter().enumerate() {
            let ipv4 = pool.first().map(IpAddr::is_ipv4);
            let same_family = |ip: &IpAddr| Some(ip.is_ipv4()) == ipv4;
            let second = nats[..number]
                .iter()
                .any(|(other, _)| other.iter().any(same_family));
            if ipv4.is_none() || second || !pool.iter().all(same_family) {
                return Err(WorldError::NatAddresses { node });
            }
        }
        let has_ipv4_nat = nats
            .iter()
            .any(|(pool, _)| pool.iter().any(IpAddr::is_ipv4));
        if nat64.is_some_and(|prefix| prefix.prefix_len() != 96 || !has_ipv4_nat) {
            return Err(WorldError::Translator { node });
        }
        let addresses: Vec<_> = nats.iter().flat_map(|(pool, _)| pool.clone()).collect();
        self.check_addresses(node, outside, &addresses)?;
        if announced {
            self.check_prefixes(node, outside, &prefixes)?;
        }
        let inside = self.add_realm();
        let nats = nats.into_iter().enumerate().map(|(number, (pool, nat))| {
            let mut random: ChaCha8Rng = random.clone();
            random.set_word_pos(number as u128 * 1_000_000_000);
            NatState::new(nat, &pool, random)
        });
        let state = RouterState {
            nats: nats.collect(),
            insides: vec![(inside, prefixes.clone())],
            routed: prefixes.clone(),
            firewall: FirewallState::new(firewall),
            nat64,
        };
        self.add_node(NodeKind::Router(Box::new(state)));
        self.attach(node, outside, &addresses, link)?;
        if announced {
            self.prefixes
                .extend(prefixes.iter().map(|prefix| (outside, *prefix, node)));
        }
        self.gateways.insert(inside, node);
        Ok((node, inside))
    }

    /// A NAT with one address in `outside`, and the realm behind it.
    ///
    /// # Panics
    /// If the address is somebody else's already.
    pub fn add_nat(
        &mut self,
        outside: Realm,
        address: IpAddr,
        link: crate::Link,
        nat: Nat,
    ) -> (NodeId, Realm) {
        self.add_router(outside, link, Router::new().with_nat(&[address], nat))
    }

    /// One more realm behind a router, with networks by which the router knows it. Between its realms a router
    /// passes everything.
    ///
    /// # Errors
    /// A network is one of another realm's there.
    ///
    /// # Panics
    /// If the node is not a router.
    pub fn add_subnet(&mut self, router: NodeId, networks: &[IpNet]) -> Result<Realm, WorldError> {
        for network in networks {
            let state = self.router_mut(router);
            let mut others = state.insides.iter().flat_map(|(_, networks)| networks);
            if let Some(other) = others.find(|other| overlap(other, network)) {
                return Err(WorldError::PrefixTaken {
                    prefix: *network,
                    owner: router,
                    other: *other,
                    wanted_by: router,
                });
            }
        }
        let realm = self.add_realm();
        self.router_mut(router)
            .insides
            .push((realm, networks.to_vec()));
        self.gateways.insert(realm, router);
        Ok(realm)
    }

    /// Switches a router off and on again: it forgets every mapping and flow; or a TURN server, which forgets every
    /// allocation. It takes no time; to leave it off for a while see [`set_up`](Self::set_up).
    ///
    /// # Panics
    /// If the node is neither.
    pub fn reboot(&mut self, router: NodeId) {
        if matches!(self.node(router).kind, NodeKind::TurnServer(_)) {
            return self.reboot_turn(router);
        }
        let state = self.router_mut(router);
        state.nats.iter_mut().for_each(NatState::reboot);
        state.firewall.reboot();
        self.renew_ports(router);
    }

    /// Gives a router's NAT other outside addresses, as a provider does. Its mappings are forgotten.
    ///
    /// # Errors
    /// An address is somebody else's already; the addresses are not all of the family of one of its NATs.
    ///
    /// # Panics
    /// If the node is not a router.
    pub fn renumber(&mut self, router: NodeId, addresses: &[IpAddr]) -> Result<(), WorldError> {
        let refused = WorldError::NatAddresses { node: router };
        let ipv4 = addresses.first().ok_or(refused)?.is_ipv4();
        if addresses.iter().any(|ip| ip.is_ipv4() != ipv4) {
            return Err(refused);
        }
        let nat = self.router_mut(router).nat(ipv4).ok_or(refused)?;
        let old = nat.pool().to_vec();
        let all = self.node(router).attachments[0].addresses.iter();
        let all: Vec<_> = all
            .copied()
            .filter(|ip| !old.contains(ip))
            .chain(addresses.iter().copied())
            .collect();
        self.readdress(router, 0, &all)?;
        if let Some(nat) = self.router_mut(router).nat(ipv4) {
            nat.renumber(addresses);
        }
        self.renew_ports(router);
        Ok(())
    }

    /// Replaces a router's firewall. The new one knows no flows.
    ///
    /// # Panics
    /// If the node is not a router.
    pub fn set_firewall(&mut self, router: NodeId, firewall: Firewall) {
        self.router_mut(router).firewall = FirewallState::new(firewall);
    }

    /// DNS64 (RFC 6147): the addresses that hosts of a realm know for one that has these.
    pub(crate) fn synthesized(&self, realm: Realm, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let router = self.gateways.get(&realm).map(|router| self.router(*router));
        let Some(prefix) = router.and_then(|router| router.nat64) else {
            return addresses.to_vec();
        };
        let mut known = addresses.to_vec();
        if !known.iter().any(IpAddr::is_ipv6) {
            let under = |ip: &IpAddr| match ip {
                IpAddr::V4(v4) => Some(embedded(prefix, *v4)),
                IpAddr::V6(_) => None,
            };
            known.splice(0..0, addresses.iter().filter_map(under));
        }
        known
    }

    pub(crate) fn router(&self, node: NodeId) -> &RouterState {
        match &self.node(node).kind {
            NodeKind::Router(router) => router,
            _ => panic!("{node} is not a router"),
        }
    }

    pub(crate) fn router_mut(&mut self, node: NodeId) -> &mut RouterState {
        match &mut self.node_mut(node).kind {
            NodeKind::Router(router) => router,
            _ => panic!("{node} is not a router"),
        }
    }
}

/// Whether two networks have an address in common.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}
