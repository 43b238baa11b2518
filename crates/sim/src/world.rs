//! The world: building it, running it, asking it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use nilas_ice::{
    BindError, Command, Input, Interface, Output, RequestId, ResolveError, SocketId, Time,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::agents::Agent;
use crate::host::Host;
use crate::link::Link;
use crate::nat::{Nat, NatState};
use crate::queue::Queue;
use crate::signaling::{Channel, Signal};
use crate::sockets::{Sockets, UdpOwner};
use crate::trace::Trace;
use crate::transit::Datagram;
use crate::turn_server::TurnNode;

/// A network in memory with a clock of its own. See the [crate's front page](crate).
///
/// # Panics
/// A world is a test's fixture: a mistake in its wiring, such as an address given twice or a node of
/// another world, panics with a sentence that names it.
#[derive(Debug)]
pub struct World {
    pub(crate) queue: Queue<Happening>,
    pub(crate) random: ChaCha8Rng,
    pub(crate) nodes: Vec<Node>,
    /// Whose interface has an address.
    pub(crate) routes: BTreeMap<(Realm, IpAddr), (NodeId, usize)>,
    /// The NAT of each realm but the Internet.
    pub(crate) gateways: BTreeMap<Realm, NodeId>,
    pub(crate) trace: Trace,
    pub(crate) channels: BTreeMap<Agent, Channel>,
    names: BTreeMap<String, Vec<IpAddr>>,
    name_delay: Duration,
    next_realm: usize,
}

/// An address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(usize);

impl Realm {
    /// The realm outside all NATs.
    pub const INTERNET: Self = Self(0);
}

/// A node: a host, a NAT or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) sockets: Sockets,
    pub(crate) up: bool,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Host(Box<Host>),
    StunServer,
    TurnServer(Box<TurnNode>),
    Nat { state: NatState, inside: Realm },
}

/// An interface of a node: its addresses and its link into a realm.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) realm: Realm,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) link: Link,
}

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A datagram has climbed a wire into a realm.
    EntersRealm { realm: Realm, datagram: Datagram },
    /// A datagram has descended a wire to a node.
    Reaches { node: NodeId, datagram: Datagram },
    /// A command to bind is answered.
    Bound {
        node: NodeId,
        request: RequestId,
        result: Result<(SocketId, SocketAddr), BindError>,
    },
    /// A command to resolve is answered.
    Resolved {
        node: NodeId,
        request: RequestId,
        result: Result<Vec<SocketAddr>, ResolveError>,
    },
    /// The deadline of a host's engine comes.
    Wake { node: NodeId },
    /// Signaling arrives.
    Signal { to: Agent, signal: Signal },
}

/// More than this at one moment, and an engine does not come to rest.
const MOST_OUTPUTS_AT_ONCE: u32 = 1_000_000;

impl World {
    /// An empty world at time zero. The same seed and the same calls give the same world.
    pub fn new(seed: u64) -> Self {
        Self {
            queue: Queue::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            routes: BTreeMap::new(),
            gateways: BTreeMap::new(),
            trace: Trace::default(),
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            name_delay: Duration::ZERO,
            next_realm: 1,
        }
    }

    /// A host with one interface.
    pub fn add_host(&mut self, realm: Realm, addresses: &[IpAddr], link: Link) -> NodeId {
        let mut seed = [0; 32];
        self.random_of_next_node().fill_bytes(&mut seed);
        let node = self.add_node(NodeKind::Host(Box::new(Host::new(seed))));
        self.add_interface(node, realm, addresses, link);
        node
    }

    /// One more interface for a host, which its engine is told of.
    pub fn add_interface(&mut self, node: NodeId, realm: Realm, addresses: &[IpAddr], link: Link) {
        self.attach(node, realm, addresses, link);
        let (now, interfaces) = (self.now(), self.interfaces(node));
        let _ = self
            .host_mut(node)
            .engine
            .handle(now, Input::Interfaces(&interfaces));
        self.settle(node);
    }

    /// A NAT with one address in `outside`, and the realm behind it.
    pub fn add_nat(
        &mut self,
        outside: Realm,
        address: IpAddr,
        link: Link,
        nat: Nat,
    ) -> (NodeId, Realm) {
        let inside = Realm(self.next_realm);
        self.next_realm += 1;
        let node = self.add_node(NodeKind::Nat {
            state: NatState::new(nat, address),
            inside,
        });
        self.attach(node, outside, &[address], link);
        self.gateways.insert(inside, node);
        (node, inside)
    }

    /// A STUN server that answers Binding requests over UDP.
    pub fn add_stun_server(&mut self, realm: Realm, address: SocketAddr, link: Link) -> NodeId {
        let node = self.add_node(NodeKind::StunServer);
        self.attach(node, realm, &[address.ip()], link);
        self.listen_udp(node, address);
        node
    }

    /// A name that every host can resolve.
    pub fn add_name(&mut self, name: impl Into<String>, addresses: &[IpAddr]) {
        self.names.insert(name.into(), addresses.to_vec());
    }

    /// How long names take to be resolved from now on; at first they take no time.
    pub const fn set_name_delay(&mut self, delay: Duration) {
        self.name_delay = delay;
    }

    /// Unplugs a node, or plugs it in again. While it is unplugged nothing leaves it and nothing
    /// reaches it; its engine keeps running.
    pub fn set_up(&mut self, node: NodeId, up: bool) {
        self.nodes[node.0].up = up;
    }

    /// Replaces the links of all interfaces of a node. What is under way is not affected.
    pub fn set_link(&mut self, node: NodeId, link: Link) {
        for attachment in &mut self.nodes[node.0].attachments {
            attachment.link = link;
        }
    }

    /// Runs for this long.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until a condition holds, but not longer than `limit`. The answer is when it came to hold,
    /// and `None` if it did not.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Option<Time> {
        let end = self.now() + limit;
        loop {
            if condition(self) {
                return Some(self.now());
            }
            match self.queue.next(end) {
                Some(happening) => self.happen(happening),
                None => break,
            }
        }
        self.queue.advance(end);
        None
    }

    /// The time in this world.
    pub const fn now(&self) -> Time {
        self.queue.now()
    }

    /// Every datagram so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How many datagrams reached a socket of this host and belonged to none of its agents.
    pub fn not_ours(&self, node: NodeId) -> u64 {
        self.host(node).not_ours
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::EntersRealm { realm, datagram } => self.enter_realm(realm, datagram),
            Happening::Reaches { node, datagram } => self.reach(node, datagram),
            Happening::Bound {
                node,
                request,
                result,
            } => {
                let _ = self
                    .host_mut(node)
                    .engine
                    .handle(now, Input::Bound { request, result });
                self.settle(node);
            }
            Happening::Resolved {
                node,
                request,
                result,
            } => {
                let result = result.as_deref().map_err(|error| *error);
                let _ = self
                    .host_mut(node)
                    .engine
                    .handle(now, Input::Resolved { request, result });
                self.settle(node);
            }
            Happening::Wake { node } if matches!(self.node(node).kind, NodeKind::TurnServer(_)) => {
                self.wake_turn(node);
            }
            Happening::Wake { node } => {
                let host = self.host_mut(node);
                // An older wake-up, which a later deadline has replaced, is nothing.
                if host.wake == Some(now) {
                    host.wake = None;
                    host.count_wake(now);
                    self.settle(node);
                }
            }
            Happening::Signal { to, signal } => self.deliver_and_record(to, signal),
        }
    }

    /// Does all that a host's engine wants, until it is idle.
    pub(crate) fn settle(&mut self, node: NodeId) {
        let now = self.now();
        let mut buffer = [0; 1280];
        for _ in 0..MOST_OUTPUTS_AT_ONCE {
            let host = self.host_mut(node);
            match host.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let source = host.address_of(transmit.socket).unwrap_or_else(|| {
                        panic!(
                            "the engine sends from {:?}, which it closed or never had",
                            transmit.socket
                        )
                    });
                    self.send_datagram(
                        node,
                        source,
                        transmit.destination,
                        &buffer[..transmit.size],
                    );
                }
                Output::Event(id, event) => self.note(Agent { node, id }, event),
                Output::Command(command) => self.execute(node, command),
                Output::Idle(deadline) => {
                    if host.wake != deadline {
                        host.wake = deadline.map(|deadline| deadline.max(now));
                        if let Some(at) = host.wake {
                            self.queue.plan(at, Happening::Wake { node });
                        }
                    }
                    return;
                }
                output => panic!("nilas-sim does not know what to do with {output:?}"),
            }
        }
        panic!("the engine of {node} does not come to rest at {now:?}");
    }

    fn execute(&mut self, node: NodeId, command: Command) {
        let now = self.now();
        match command {
            Command::Bind { request, address } => {
                let own = self.addresses_of(node);
                let socket = self.host_mut(node).next_socket();
                let owner = UdpOwner::Engine(socket);
                let result = self.node_mut(node).sockets.bind(address, own, owner);
                if let Ok(address) = result {
                    self.host_mut(node).addresses.insert(socket, address);
                }
                let result = result.map(|address| (socket, address));
                self.queue.plan(
                    now,
                    Happening::Bound {
                        node,
                        request,
                        result,
                    },
                );
            }
            Command::CloseSocket(socket) => {
                if let Some(address) = self.host_mut(node).addresses.remove(&socket) {
                    self.node_mut(node).sockets.close(address);
                }
            }
            Command::Resolve {
                request,
                name,
                port,
            } => {
                let result = match name.parse() {
                    Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
                    Err(_) => self
                        .names
                        .get(&name)
                        .map(|ips| ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
                        .ok_or(ResolveError::NotFound),
                };
                self.queue.plan(
                    now + self.name_delay,
                    Happening::Resolved {
                        node,
                        request,
                        result,
                    },
                );
            }
            command => panic!("nilas-sim does not know how to execute {command:?}"),
        }
    }

    /// A generator of its own for each node: what it draws changes nothing on the wires.
    pub(crate) fn random_of_next_node(&self) -> ChaCha8Rng {
        let mut stream = self.random.clone();
        stream.set_stream(self.nodes.len() as u64 + 1);
        stream.set_word_pos(0);
        stream
    }

    /// Lets a server listen.
    pub(crate) fn listen_udp(&mut self, node: NodeId, address: SocketAddr) {
        let own = self.addresses_of(node);
        let sockets = &mut self.node_mut(node).sockets;
        if let Err(error) = sockets.bind(address, own, UdpOwner::Listener) {
            panic!("{node} cannot listen on {address}: {error:?}");
        }
    }

    pub(crate) fn addresses_of(&self, node: NodeId) -> Vec<IpAddr> {
        let attachments = self.node(node).attachments.iter();
        attachments.flat_map(|a| a.addresses.clone()).collect()
    }

    pub(crate) fn add_node(&mut self, kind: NodeKind) -> NodeId {
        self.nodes.push(Node {
            kind,
            attachments: Vec::new(),
            sockets: Sockets::new(),
            up: true,
        });
        NodeId(self.nodes.len() - 1)
    }

    pub(crate) fn attach(&mut self, node: NodeId, realm: Realm, addresses: &[IpAddr], link: Link) {
        assert!(realm.0 < self.next_realm, "{realm:?} is of another world");
        let attachments = &mut self.nodes[node.0].attachments;
        let place = (node, attachments.len());
        attachments.push(Attachment {
            realm,
            addresses: addresses.to_vec(),
            link,
        });
        for address in addresses {
            let other = self.routes.insert((realm, *address), place);
            assert_eq!(other, None, "{address} has an owner in {realm:?} already");
        }
    }

    fn interfaces(&self, node: NodeId) -> Vec<Interface> {
        let attachments = self.nodes[node.0].attachments.iter().enumerate();
        attachments
            .map(|(number, attachment)| Interface {
                name: format!("eth{number}"),
                index: number as u32 + 1,
                addresses: attachment.addresses.clone(),
            })
            .collect()
    }

    pub(crate) fn host(&self, node: NodeId) -> &Host {
        match &self.nodes[node.0].kind {
            NodeKind::Host(host) => host,
            _ => panic!("{node} is not a host"),
        }
    }

    pub(crate) fn host_mut(&mut self, node: NodeId) -> &mut Host {
        match &mut self.nodes[node.0].kind {
            NodeKind::Host(host) => host,
            _ => panic!("{node} is not a host"),
        }
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0]
    }

    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0]
    }
}
