//! The world: building it, running it, asking it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use ipnet::IpNet;
use nilas_ice::{
    BindError, Command, Input, Output, RequestId, ResolveError, SendError, SocketId,
    StreamTransport, Time,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::agents::Agent;
use crate::error::WorldError;
use crate::host::Host;
use crate::interfaces::Attachment;
use crate::link::Link;
use crate::packet::Packet;
use crate::queue::Queue;
use crate::router::RouterState;
use crate::signaling::{Channel, Signal};
use crate::sockets::{Sockets, UdpOwner};
use crate::tcp::{self, Stack};
use crate::trace::Trace;
use crate::turn_server::TurnNode;

/// A network in memory with a clock of its own. See the [crate's front page](crate).
///
/// # Panics
/// A world is a test's fixture: a mistake in its wiring, such as an address given twice or a node of
/// another world, panics with a sentence that names the place and the reason. The methods that begin with
/// `try` give it as a [`WorldError`] instead.
#[derive(Debug)]
pub struct World {
    pub(crate) queue: Queue<Happening>,
    pub(crate) random: ChaCha8Rng,
    pub(crate) nodes: Vec<Node>,
    /// Whose interface has an address.
    pub(crate) routes: BTreeMap<(Realm, IpAddr), (NodeId, usize)>,
    /// Which router leads to which network of a realm.
    pub(crate) prefixes: Vec<(Realm, IpNet, NodeId)>,
    /// The router that leads out of a realm.
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

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("the Internet"),
            number => write!(f, "realm {number}"),
        }
    }
}

/// A node: a host, a router or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

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
    pub(crate) tcp: Stack,
    pub(crate) up: bool,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Host(Box<Host>),
    StunServer,
    TurnServer(Box<TurnNode>),
    Router(Box<RouterState>),
}

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A packet has climbed a node's wire into a realm.
    EntersRealm {
        realm: Realm,
        sender: NodeId,
        packet: Packet,
    },
    /// A packet has descended a wire to a node.
    Reaches { node: NodeId, packet: Packet },
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
    /// A host opens a connection to a server whose addresses are known now.
    OpensStream {
        node: NodeId,
        request: RequestId,
        transport: StreamTransport,
        addresses: Result<Vec<SocketAddr>, ResolveError>,
    },
    /// The next address of a server is tried.
    NextAddress { node: NodeId, request: RequestId },
    /// A connection ought to be open.
    StreamDeadline { node: NodeId, request: RequestId },
    /// A timer of a node's TCP runs out.
    TcpTimer { node: NodeId },
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
            prefixes: Vec::new(),
            gateways: BTreeMap::new(),
            trace: Trace::default(),
            channels: BTreeMap::new(),
            // RFC 7050 section 8.2: by this name a host finds out whether it is behind a translator.
            names: BTreeMap::from([(
                "ipv4only.arpa".to_owned(),
                vec![
                    IpAddr::from([192, 0, 0, 170]),
                    IpAddr::from([192, 0, 0, 171]),
                ],
            )]),
            name_delay: Duration::ZERO,
            next_realm: 1,
        }
    }

    /// A host with one interface.
    ///
    /// # Panics
    /// As [`try_add_host`](Self::try_add_host) refuses.
    pub fn add_host(&mut self, realm: Realm, addresses: &[IpAddr], link: Link) -> NodeId {
        self.try_add_host(realm, addresses, link)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A host with one interface.
    ///
    /// # Errors
    /// An address is somebody else's already; the realm is of another world; a probability of the link is not
    /// between 0 and 1.
    pub fn try_add_host(
        &mut self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<NodeId, WorldError> {
        self.check_new(realm, addresses, link)?;
        let mut seed = [0; 32];
        self.random_of_next_node().fill_bytes(&mut seed);
        let node = self.add_node(NodeKind::Host(Box::new(Host::new(seed))));
        self.try_add_interface(node, realm, addresses, link)?;
        Ok(node)
    }

    /// A realm that nothing leads out of: a network of its own, until a router is added.
    pub const fn add_realm(&mut self) -> Realm {
        self.next_realm += 1;
        Realm(self.next_realm - 1)
    }

    /// A STUN server that answers Binding requests over UDP.
    ///
    /// # Panics
    /// As [`try_add_stun_server`](Self::try_add_stun_server) refuses.
    pub fn add_stun_server(&mut self, realm: Realm, address: SocketAddr, link: Link) -> NodeId {
        self.try_add_stun_server(realm, address, link)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A STUN server that answers Binding requests over UDP.
    ///
    /// # Errors
    /// As [`try_add_host`](Self::try_add_host).
    pub fn try_add_stun_server(
        &mut self,
        realm: Realm,
        address: SocketAddr,
        link: Link,
    ) -> Result<NodeId, WorldError> {
        self.check_new(realm, &[address.ip()], link)?;
        let node = self.add_node(NodeKind::StunServer);
        self.attach(node, realm, &[address.ip()], link)?;
        self.listen_udp(node, address)?;
        Ok(node)
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

    /// Whether every host has a way to somebody from each of its addresses, so that no test proves something about
    /// a network that nobody could use.
    ///
    /// # Errors
    /// The first host and address without.
    pub fn check(&self) -> Result<(), WorldError> {
        let hosts = self.nodes.iter().enumerate();
        for (number, node) in hosts.filter(|(_, n)| matches!(n.kind, NodeKind::Host(_))) {
            for attachment in &node.attachments {
                for address in &attachment.addresses {
                    let realm = attachment.realm;
                    let leads_out = realm == Realm::INTERNET
                        || self
                            .gateways
                            .get(&realm)
                            .is_some_and(|router| self.router(*router).passes(*address));
                    let is_alone = !self.routes.iter().any(|((other, ip), (owner, _))| {
                        *other == realm && owner.0 != number && ip.is_ipv4() == address.is_ipv4()
                    });
                    if !leads_out && is_alone {
                        return Err(WorldError::NoRoute {
                            node: NodeId(number),
                            address: *address,
                            realm,
                        });
                    }
                }
            }
        }
        Ok(())
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
            Happening::EntersRealm {
                realm,
                sender,
                packet,
            } => self.arrive_in_realm(realm, sender, packet),
            Happening::Reaches { node, packet } => self.reach(node, packet),
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
            Happening::OpensStream {
                node,
                request,
                transport,
                addresses,
            } => self.open_stream(node, request, transport, addresses),
            Happening::NextAddress { node, request } => self.try_next_address(node, request),
            Happening::StreamDeadline { node, request } => self.stream_deadline(node, request),
            Happening::TcpTimer { node } => self.wake_tcp(node),
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
                    let (socket, remote) = (transmit.socket, transmit.destination);
                    let source = host.address_of(socket).unwrap_or_else(|| {
                        panic!("the engine sends from {socket:?}, which it closed or never had")
                    });
                    if !self.send_datagram(node, source, remote, &buffer[..transmit.size]) {
                        // As an operating system says when the address is gone.
                        let error = SendError::Unreachable;
                        let input = Input::SendError {
                            socket,
                            remote,
                            error,
                        };
                        let _ = self.host_mut(node).engine.handle(now, input);
                    }
                }
                Output::StreamTransmit(transmit) => {
                    self.write_stream(node, transmit.stream, &buffer[..transmit.size]);
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
                let result = self.resolve_with_port(node, &name, port);
                self.queue.plan(
                    now + self.name_delay,
                    Happening::Resolved {
                        node,
                        request,
                        result,
                    },
                );
            }
            Command::OpenStream {
                request,
                transport,
                host,
                port,
                address,
            } => {
                let is_known = address.is_some() || host.parse::<IpAddr>().is_ok();
                let addresses = match address {
                    Some(address) => Ok(vec![address]),
                    None => self.resolve_with_port(node, &host, port),
                };
                let delay = if is_known {
                    Duration::ZERO
                } else {
                    self.name_delay
                };
                self.queue.plan(
                    now + delay,
                    Happening::OpensStream {
                        node,
                        request,
                        transport,
                        addresses,
                    },
                );
            }
            Command::CloseStream(stream) => self.close_stream(node, stream),
            command => panic!("nilas-sim does not know how to execute {command:?}"),
        }
    }

    fn resolve_with_port(
        &self,
        node: NodeId,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let ips = match name.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolve(node, name)?,
        };
        Ok(ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect())
    }

    /// What a host's resolver knows of a name. Behind a translator to IPv4 it is a DNS64 (RFC 6147).
    fn resolve(&self, node: NodeId, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let addresses = self.names.get(name).ok_or(ResolveError::NotFound)?;
        let first = self.node(node).attachments.first();
        Ok(match first {
            Some(attachment) => self.synthesized(attachment.realm, addresses),
            None => addresses.clone(),
        })
    }

    /// A generator of its own for each node: what it draws changes nothing on the wires.
    pub(crate) fn random_of_next_node(&self) -> ChaCha8Rng {
        let mut stream = self.random.clone();
        stream.set_stream(self.nodes.len() as u64 + 1);
        stream.set_word_pos(0);
        stream
    }

    /// Whether a node can be added with these.
    pub(crate) fn check_new(
        &self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<(), WorldError> {
        let node = self.next_node();
        if addresses.is_empty() {
            return Err(WorldError::NoAddress { node });
        }
        self.check_addresses(node, realm, addresses)?;
        self.check_link(node, link)
    }

    pub(crate) const fn check_realm(&self, realm: Realm) -> Result<(), WorldError> {
        if realm.0 < self.next_realm {
            Ok(())
        } else {
            Err(WorldError::UnknownRealm { realm })
        }
    }

    /// The id of the node that is added next.
    pub(crate) const fn next_node(&self) -> NodeId {
        NodeId(self.nodes.len())
    }

    /// Lets a server listen.
    pub(crate) fn listen_udp(
        &mut self,
        node: NodeId,
        address: SocketAddr,
    ) -> Result<(), WorldError> {
        let own = self.addresses_of(node);
        let sockets = &mut self.node_mut(node).sockets;
        sockets
            .bind(address, own, UdpOwner::Listener)
            .map(|_| ())
            .map_err(|_| WorldError::PortTaken { node, address })
    }

    pub(crate) fn listen_stream(
        &mut self,
        node: NodeId,
        address: SocketAddr,
        secure: bool,
    ) -> Result<(), WorldError> {
        let stack = &mut self.node_mut(node).tcp;
        if stack.listen(address, tcp::Owner::Server, secure) {
            Ok(())
        } else {
            Err(WorldError::PortTaken { node, address })
        }
    }

    pub(crate) fn add_node(&mut self, kind: NodeKind) -> NodeId {
        self.nodes.push(Node {
            kind,
            attachments: Vec::new(),
            sockets: Sockets::new(),
            tcp: Stack::new(),
            up: true,
        });
        NodeId(self.nodes.len() - 1)
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
