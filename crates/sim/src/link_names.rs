//! Names that hosts answer for on their link, as multicast DNS does (RFC 6762): found by those in the same realm, and by
//! nobody beyond it. The internet is no link.
//!
//! Question and answer take the hosts' wires with their delay and loss, three times as a resolver asks; they are not in the
//! trace.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_ice::ResolveError;

use crate::world::{NodeId, Realm, World};

/// When a resolver asks, and how long it waits in all.
const ASKED_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];
const GIVEN_UP_AT: Duration = Duration::from_secs(5);
/// A question or an answer for one name.
const IP_BYTES: usize = 100;

/// Who answers for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkName {
    node: NodeId,
    address: IpAddr,
}

impl World {
    /// The names that a host's engine has answered for on its link now.
    pub fn link_names(&self, node: NodeId) -> Vec<(&str, IpAddr)> {
        let names = self.link_names.iter();
        let own = names.filter(|(_, own)| own.node == node);
        own.map(|(name, own)| (name.as_str(), own.address))
            .collect()
    }

    pub(crate) fn register_name(&mut self, node: NodeId, name: String, address: IpAddr) {
        self.link_names.insert(name, LinkName { node, address });
    }

    pub(crate) fn unregister_name(&mut self, name: &str) {
        self.link_names.remove(name);
    }

    /// The address of a name on a link of this host, and how long it takes to be found.
    pub(crate) fn find_on_link(
        &mut self,
        asker: NodeId,
        name: &str,
        port: u16,
    ) -> (Duration, Result<Vec<SocketAddr>, ResolveError>) {
        let way = self
            .link_names
            .get(name)
            .copied()
            .and_then(|own| Some((own, self.shared_link(asker, own)?)));
        for asked_at in ASKED_AT {
            let Some((own, (from, to))) = way else { break };
            if let Some(took) = self.ask_once((asker, from), (own.node, to)) {
                let found = vec![SocketAddr::new(own.address, port)];
                return (asked_at + took, Ok(found));
            }
        }
        (GIVEN_UP_AT, Err(ResolveError::TimedOut))
    }

    /// The interfaces of two hosts on the link that a name's address is of.
    fn shared_link(&self, asker: NodeId, own: LinkName) -> Option<(usize, usize)> {
        let (asker, owner) = (self.node(asker), self.node(own.node));
        let mut interfaces = owner.attachments.iter();
        let to = interfaces.position(|there| there.addresses.contains(&own.address))?;
        let realm = owner.attachments[to].realm;
        let is_there = |here: &crate::interfaces::Attachment| {
            here.realm == realm && realm != Realm::INTERNET && !here.addresses.is_empty()
        };
        let from = asker.attachments.iter().position(is_there)?;
        (asker.up && owner.up).then_some((from, to))
    }

    /// How long a question and its answer are under way; `None` if one is lost.
    fn ask_once(&mut self, asker: (NodeId, usize), owner: (NodeId, usize)) -> Option<Duration> {
        let now = self.queue.now();
        let mut took = Duration::ZERO;
        for (from, to) in [(asker, owner), (owner, asker)] {
            let attachment = &mut self.nodes[from.0.0].attachments[from.1];
            let (wire, state) = (attachment.link.up, &mut attachment.up_state);
            took += wire.carry(state, now, IP_BYTES, &mut self.random).ok()?[0]?;
            let attachment = &mut self.nodes[to.0.0].attachments[to.1];
            let (wire, state) = (attachment.link.down, &mut attachment.down_state);
            took += wire.carry(state, now, IP_BYTES, &mut self.random).ok()?[0]?;
        }
        Some(took)
    }
}
