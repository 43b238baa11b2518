//! The world: building it, running it, asking it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use ipnet::IpNet;
use nilas_ice::{
    BindError, Input, PortMappingError, RecordingOptions, RequestId, ResolveError, SocketId,
    StreamTransport, Time,
};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::agents::Agent;
use crate::host::Host;
use crate::interfaces::Attachment;
use crate::link_names::LinkName;
use crate::packet::Packet;
use crate::port_mapping::PortMappings;
use crate::queue::Queue;
use crate::router::RouterState;
use crate::signaling::{Channel, Route, Signal};
use crate::sockets::Sockets;
use crate::stun_server::StunNode;
use crate::tcp::Stack;
use crate::trace::Trace;
use crate::turn_server::TurnNode;

/// A network in memory with a clock of its own. See the [crate's front page](crate).
///
/// # Panics
/// A world is a test's fixture: a mistake in its wiring, such as an address given twice or a node of
/// another world, panics with a sentence that names the place and the reason. The methods that begin with
/// `try` give it as a [`WorldError`](crate::WorldError) instead.
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
    pub(crate) channels: Vec<Channel>,
    /// Whose signals go where.
    pub(crate) signal_routes: BTreeMap<Agent, Route>,
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) name_delay: Duration,
    pub(crate) link_names: BTreeMap<String, LinkName>,
    pub(crate) port_mappings: PortMappings,
    pub(crate) next_realm: usize,
    /// How the engines of new hosts are recorded.
    pub(crate) recording: Option<RecordingOptions>,
}

/// An address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(pub(crate) usize);

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
    StunServer(StunNode),
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
    /// A router hears that a host wants a port forwarded to a socket.
    AsksForPort { node: NodeId, socket: SocketId },
    /// A gateway has something to say of a host's socket.
    PortMapped {
        node: NodeId,
        socket: SocketId,
        result: Result<SocketAddr, PortMappingError>,
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
            channels: Vec::new(),
            signal_routes: BTreeMap::new(),
            // RFC 7050 section 8.2: by this name a host finds out whether it is behind a translator.
            names: BTreeMap::from([(
                "ipv4only.arpa".to_owned(),
                vec![
                    IpAddr::from([192, 0, 0, 170]),
                    IpAddr::from([192, 0, 0, 171]),
                ],
            )]),
            name_delay: Duration::ZERO,
            link_names: BTreeMap::new(),
            port_mappings: PortMappings::default(),
            next_realm: 1,
            recording: None,
        }
    }

    /// Records the engine of every host that is added from now on.
    pub fn record_hosts(&mut self, options: RecordingOptions) {
        self.recording = Some(options);
    }

    /// Ends the recording of a host's engine, and gives it. Empty if it was not recorded.
    pub fn end_recording(&mut self, node: NodeId) -> Vec<u8> {
        self.host_mut(node).engine.end_recording()
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

    /// Suspends a host: nothing leaves it, nothing reaches it, and its engine does not run, until it is
    /// [resumed](Self::resume). Signaling reaches it all the same: [hold](Self::hold_signals) what is to wait.
    ///
    /// # Panics
    /// If it is no host.
    pub fn suspend(&mut self, node: NodeId) {
        self.host_mut(node).is_asleep = true;
        self.set_up(node, false);
    }

    /// Resumes a suspended host. Its engine finds itself at a later time.
    ///
    /// # Panics
    /// If it is no host.
    pub fn resume(&mut self, node: NodeId) {
        let host = self.host_mut(node);
        (host.is_asleep, host.wake) = (false, None);
        self.set_up(node, true);
        self.settle(node);
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

    /// Forgets the packets so far, so that the trace of a long run does not grow without end.
    pub fn forget_packets(&mut self) {
        self.trace.forget();
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
            Happening::AsksForPort { node, socket } => self.ask_for_port(node, socket),
            Happening::PortMapped {
                node,
                socket,
                result,
            } => self.port_mapped(node, socket, result),
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
                if host.is_asleep {
                    return;
                }
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
