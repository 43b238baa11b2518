//! The interfaces of nodes: their addresses and links, and how they come, change and go.

use core::net::IpAddr;

use ipnet::IpNet;
use nilas_ice::{Input, Interface};

use crate::error::WorldError;
use crate::link::{Link, Wire, WireState};
use crate::router::overlap;
use crate::world::{NodeId, NodeKind, Realm, World};

/// An interface of a node: its addresses and its link into a realm.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) realm: Realm,
    /// None while it is unplugged or gone.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the node says of some of them.
    temporary: Vec<IpAddr>,
    deprecated: Vec<IpAddr>,
    pub(crate) link: Link,
    pub(crate) up_state: WireState,
    pub(crate) down_state: WireState,
    /// Whether the node still has it.
    present: bool,
    /// What the host is told that it costs.
    cost: u16,
}

impl World {
    /// One more interface for a host, which its engine is told of. Its name is `eth` and its number, which counts
    /// from zero.
    ///
    /// # Panics
    /// As [`try_add_interface`](Self::try_add_interface) refuses.
    pub fn add_interface(&mut self, node: NodeId, realm: Realm, addresses: &[IpAddr], link: Link) {
        if let Err(error) = self.try_add_interface(node, realm, addresses, link) {
            panic!("{error}");
        }
    }

    /// One more interface for a host, which its engine is told of; the answer is its number.
    ///
    /// # Errors
    /// An address is somebody else's already; the realm is of another world.
    pub fn try_add_interface(
        &mut self,
        node: NodeId,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<usize, WorldError> {
        let number = self.attach(node, realm, addresses, link)?;
        self.tell_interfaces(node);
        Ok(number)
    }

    /// Says which addresses of an interface are temporary, and which are deprecated (RFC 8981). Its engine is told.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn mark_addresses(
        &mut self,
        node: NodeId,
        number: usize,
        temporary: &[IpAddr],
        deprecated: &[IpAddr],
    ) {
        let attachment = self.attachment_mut(node, number);
        attachment.temporary = temporary.to_vec();
        attachment.deprecated = deprecated.to_vec();
        self.tell_interfaces(node);
    }

    /// Takes an interface from a host, as when a radio is switched off or a cable is pulled. Its engine is told; what
    /// its sockets send from the addresses that are gone does not leave. The other interfaces keep their numbers.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn remove_interface(&mut self, node: NodeId, number: usize) {
        self.withdraw(node, number);
        self.attachment_mut(node, number).present = false;
        self.tell_interfaces(node);
    }

    /// What sending by an interface costs (see [`Interface::cost`]), 0 until it is said. The host's engine is told.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn set_interface_cost(&mut self, node: NodeId, number: usize, cost: u16) {
        self.attachment_mut(node, number).cost = cost;
        self.tell_interfaces(node);
    }

    /// Plugs an interface in elsewhere, with other addresses: a laptop that changes its network, or comes back to it,
    /// or is given another address there. Its engine is told.
    ///
    /// # Errors
    /// An address is somebody else's already; the realm is of another world. Then nothing has changed.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn move_interface(
        &mut self,
        node: NodeId,
        number: usize,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<(), WorldError> {
        self.check_realm(realm)?;
        self.check_link(node, link)?;
        let old = self.withdraw(node, number);
        let from = core::mem::replace(&mut self.attachment_mut(node, number).realm, realm);
        if let Err(error) = self.readdress(node, number, addresses) {
            self.attachment_mut(node, number).realm = from;
            self.readdress(node, number, &old)?;
            return Err(error);
        }
        let attachment = self.attachment_mut(node, number);
        (attachment.link, attachment.present) = (link, true);
        self.tell_interfaces(node);
        Ok(())
    }

    /// Replaces the link of one interface of a node. What is under way is not affected.
    ///
    /// # Panics
    /// If there is no such interface, or a probability is not between 0 and 1.
    pub fn set_interface_link(&mut self, node: NodeId, number: usize, link: Link) {
        if let Err(error) = self.check_link(node, link) {
            panic!("{error}");
        }
        self.attachment_mut(node, number).link = link;
    }

    /// Replaces the links of all interfaces of a node. What is under way is not affected.
    ///
    /// # Panics
    /// If a probability is not between 0 and 1.
    pub fn set_link(&mut self, node: NodeId, link: Link) {
        for number in 0..self.node(node).attachments.len() {
            self.set_interface_link(node, number, link);
        }
    }

    pub(crate) fn attach(
        &mut self,
        node: NodeId,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<usize, WorldError> {
        self.check_addresses(node, realm, addresses)?;
        self.check_link(node, link)?;
        let attachments = &mut self.node_mut(node).attachments;
        let number = attachments.len();
        attachments.push(Attachment {
            realm,
            addresses: Vec::new(),
            temporary: Vec::new(),
            deprecated: Vec::new(),
            link,
            up_state: WireState::default(),
            down_state: WireState::default(),
            present: true,
            cost: 0,
        });
        self.readdress(node, number, addresses)?;
        Ok(number)
    }

    /// Replaces the addresses of an interface.
    pub(crate) fn readdress(
        &mut self,
        node: NodeId,
        number: usize,
        addresses: &[IpAddr],
    ) -> Result<(), WorldError> {
        let realm = self.attachment_mut(node, number).realm;
        let old = self.withdraw(node, number);
        let checked = self.check_addresses(node, realm, addresses);
        let addresses = if checked.is_ok() { addresses } else { &old };
        for address in addresses {
            self.routes.insert((realm, *address), (node, number));
        }
        self.attachment_mut(node, number).addresses = addresses.to_vec();
        checked
    }

    /// Whether these addresses can be those of a node in a realm.
    pub(crate) fn check_addresses(
        &self,
        node: NodeId,
        realm: Realm,
        addresses: &[IpAddr],
    ) -> Result<(), WorldError> {
        self.check_realm(realm)?;
        for (number, address) in addresses.iter().enumerate() {
            let owner = self.routes.get(&(realm, *address)).map(|(owner, _)| *owner);
            let twice = addresses[..number].contains(address).then_some(node);
            if let Some(owner) = owner.or(twice) {
                return Err(WorldError::AddressTaken {
                    address: *address,
                    realm,
                    owner,
                    wanted_by: node,
                });
            }
        }
        Ok(())
    }

    /// Whether a router can have these networks behind it.
    pub(crate) fn check_prefixes(
        &self,
        node: NodeId,
        realm: Realm,
        prefixes: &[IpNet],
    ) -> Result<(), WorldError> {
        for prefix in prefixes {
            let mut others = self
                .prefixes
                .iter()
                .filter(|(in_realm, ..)| *in_realm == realm);
            if let Some((_, other, owner)) = others.find(|(_, other, _)| overlap(other, prefix)) {
                return Err(WorldError::PrefixTaken {
                    prefix: *prefix,
                    other: *other,
                    owner: *owner,
                    wanted_by: node,
                });
            }
        }
        Ok(())
    }

    /// Whether all probabilities of a link are ones.
    pub(crate) fn check_link(&self, node: NodeId, link: Link) -> Result<(), WorldError> {
        let probabilities = |wire: Wire| {
            let [begin, end, in_burst] = wire
                .bursts
                .map_or([0.0; 3], |bursts| [bursts.begin, bursts.end, bursts.loss]);
            [
                ("loss", wire.loss),
                ("duplication", wire.duplication),
                ("reordering", wire.reordering),
                ("a burst's begin", begin),
                ("a burst's end", end),
                ("loss in a burst", in_burst),
            ]
        };
        let mut all = [link.up, link.down].into_iter().flat_map(probabilities);
        match all.find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((what, _)) => Err(WorldError::Probability { node, what }),
            None => Ok(()),
        }
    }

    pub(crate) fn interfaces(&self, node: NodeId) -> Vec<Interface> {
        let attachments = self.node(node).attachments.iter().enumerate();
        attachments
            .filter(|(_, attachment)| attachment.present)
            .map(|(number, attachment)| Interface {
                name: format!("eth{number}"),
                index: number as u32 + 1,
                addresses: attachment.addresses.clone(),
                cost: attachment.cost,
                temporary: attachment.temporary.clone(),
                deprecated: attachment.deprecated.clone(),
                default_route: number == 0,
            })
            .collect()
    }

    pub(crate) fn addresses_of(&self, node: NodeId) -> Vec<IpAddr> {
        let attachments = self.node(node).attachments.iter();
        attachments.flat_map(|a| a.addresses.clone()).collect()
    }

    /// Takes the addresses of an interface away, and gives them.
    fn withdraw(&mut self, node: NodeId, number: usize) -> Vec<IpAddr> {
        let attachment = self.attachment_mut(node, number);
        let (realm, old) = (attachment.realm, core::mem::take(&mut attachment.addresses));
        for address in &old {
            self.routes.remove(&(realm, *address));
        }
        old
    }

    fn attachment_mut(&mut self, node: NodeId, number: usize) -> &mut Attachment {
        let attachments = &mut self.node_mut(node).attachments;
        attachments
            .get_mut(number)
            .unwrap_or_else(|| panic!("{node} has no interface {number}"))
    }

    /// Only hosts have an engine that wants to know.
    pub(crate) fn tell_interfaces(&mut self, node: NodeId) {
        let (now, interfaces) = (self.now(), self.interfaces(node));
        if let NodeKind::Host(host) = &mut self.node_mut(node).kind {
            let _ = host.engine.handle(now, Input::Interfaces(&interfaces));
            self.settle(node);
        }
    }
}
