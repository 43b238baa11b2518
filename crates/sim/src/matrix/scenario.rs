//! One session between two peers, run in virtual time.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::str::FromStr;

use nilas_ice::{
    AgentConfig, Event, RecordingOptions, Role, State, StreamTransport, TcpCandidates, Time,
    TurnTransport,
};
use nilas_turn::client::Credentials;

use super::path::Ends;
use crate::access::{Access, AccessError, Kind, Side};
use crate::agents::Agent;
use crate::link::{Link, Wire};
use crate::signaling::Signaling;
use crate::turn_server::TurnServer;
use crate::world::{NodeId, Realm, World};

/// Which servers the peers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Servers {
    /// `none`: not even STUN.
    None,
    /// `stun`: STUN and no relay.
    Stun,
    /// `turn-udp`: STUN, and a relay over UDP, port 3478.
    TurnUdp,
    /// `turn-tcp`: STUN, and a relay over TCP, port 3478.
    TurnTcp,
    /// `turn-tls`: STUN, and a relay over TLS, port 443.
    TurnTls,
    /// `turn`: STUN, and a relay over all of them.
    Turn,
}

impl Servers {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Stun,
        Self::TurnUdp,
        Self::TurnTcp,
        Self::TurnTls,
        Self::Turn,
    ];

    /// Whether there is one that relays.
    pub const fn relay(self) -> bool {
        !matches!(self, Self::None | Self::Stun)
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stun => "stun",
            Self::TurnUdp => "turn-udp",
            Self::TurnTcp => "turn-tcp",
            Self::TurnTls => "turn-tls",
            Self::Turn => "turn",
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Servers {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|servers| servers.as_str() == word);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("no set of servers is called `{word}`: use one of {words}")
        })
    }
}

/// A session between two peers: where they are, and how the network between them is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data, made by whoever asks"
)]
pub struct Scenario {
    /// The first peer's access.
    pub a: Access,
    /// The second peer's access.
    pub b: Access,
    /// What servers both peers are given.
    pub servers: Servers,
    /// Whether both peers look for paths over TCP as well (RFC 6544).
    pub tcp: bool,
    /// The time from one peer to the other and back, and to a server and back. Signaling takes half of it.
    pub rtt: Duration,
    /// The share of datagrams that is lost on the whole way, in each direction, from 0 to 1.
    pub loss: f64,
    /// The first peer's role; the other peer has the other one.
    pub role: Role,
    /// All chance follows from it.
    pub seed: u64,
}

impl Scenario {
    /// A session with STUN on a network of 50 ms that loses nothing; the first peer controls.
    pub const fn new(a: Access, b: Access) -> Self {
        Self {
            a,
            b,
            servers: Servers::Stun,
            tcp: false,
            rtt: Duration::from_millis(50),
            loss: 0.0,
            role: Role::Controlling,
            seed: 1,
        }
    }

    /// Builds the world and runs the session until it has come to rest: nominated and quiet, or failed.
    ///
    /// # Errors
    /// Why these two kinds of access make no world together.
    pub fn run(&self) -> Result<Session, AccessError> {
        self.run_in(World::new(self.seed))
    }

    /// The same, with the engines of both peers [recorded](World::end_recording).
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_recorded(&self, options: RecordingOptions) -> Result<Session, AccessError> {
        let mut world = World::new(self.seed);
        world.record_hosts(options);
        self.run_in(world)
    }

    fn run_in(&self, mut world: World) -> Result<Session, AccessError> {
        // Two of these links make the way from end to end, and only their upper halves lose datagrams.
        let down = Wire::new(self.rtt / 4);
        let mut up = down;
        up.loss = self.loss;
        let uplink = Link::asymmetric(up, down);
        let server = self.add_server(&mut world, uplink);
        let a = world.add_peer(Side::A, self.a, uplink, None)?;
        let b = world.add_peer(Side::B, self.b, uplink, Some(&a))?;
        let [a, b] = [(a, self.role), (b, self.role.opposite())]
            .map(|(peer, role)| world.add_agent(peer.host, self.agent(peer.access, role)));
        let no_room = "a new engine has room for an agent, and it makes its own credentials";
        let (a, b) = (a.expect(no_room), b.expect(no_room));
        let open = "nobody closes an agent here";
        world.gather(a).expect(open);
        world.gather(b).expect(open);
        world
            .signal_between(a, b, Signaling::trickled(self.rtt / 2))
            .expect(open);
        let mut session = Session {
            world,
            a,
            b,
            server,
            outcome: Outcome::default(),
        };
        session.settle();
        Ok(session)
    }

    /// Whether these two kinds of access make a world together.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check(&self) -> Result<(), AccessError> {
        self.b.check_beside(self.a)
    }

    fn add_server(&self, world: &mut World, link: Link) -> Option<NodeId> {
        match self.servers {
            Servers::None => None,
            Servers::Stun => Some(world.add_stun_server(Realm::INTERNET, SERVER, link)),
            _ => {
                let turn = TurnServer::new(USER, PASSWORD)
                    .expect("letters make a name")
                    .on_tls(&[TLS_PORT]);
                // A relay of IPv6 as well would make a pair of two relays of it, whose priority is higher than that
                // of one relay of IPv4: only peers without a way to IPv4 are given one.
                let mut addresses = vec![SERVER.ip()];
                let v6_only = |kind| matches!(kind, Kind::V6Firewall);
                if v6_only(self.a.kind) || v6_only(self.b.kind) {
                    addresses.push(IpAddr::V6(SERVER_V6));
                }
                Some(world.add_turn_server(Realm::INTERNET, &addresses, link, turn))
            }
        }
    }

    fn agent(&self, access: Access, role: Role) -> AgentConfig {
        let mut config = AgentConfig::new(role);
        if self.tcp {
            config.tcp = TcpCandidates::All;
        }
        if self.servers == Servers::None {
            return config;
        }
        let host = match access.kind {
            Kind::V6Firewall => IpAddr::V6(SERVER_V6),
            _ => SERVER.ip(),
        };
        config
            .stun_servers
            .push(SocketAddr::new(host, SERVER.port()).into());
        let credentials = Credentials {
            username: USER.into(),
            password: PASSWORD.into(),
        };
        let udp = (SERVER.port(), TurnTransport::Udp);
        let tcp = (SERVER.port(), TurnTransport::Stream(StreamTransport::Tcp));
        let tls = (TLS_PORT, TurnTransport::Stream(StreamTransport::Tls));
        let relays: &[_] = match self.servers {
            Servers::None | Servers::Stun => &[],
            Servers::TurnUdp => &[udp],
            Servers::TurnTcp => &[tcp],
            Servers::TurnTls => &[tls],
            Servers::Turn => &[udp, tcp, tls],
        };
        for (port, transport) in relays {
            let host = host.to_string();
            let relay = nilas_ice::TurnServer::new(host, *port, *transport, credentials.clone());
            config.turn_servers.push(relay);
        }
        config
    }
}

/// A session that has run, with the world it ran in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Session {
    /// The world, with its trace.
    pub world: World,
    /// The first peer.
    pub a: Agent,
    /// The second peer.
    pub b: Agent,
    /// The server, where there is one.
    pub server: Option<NodeId>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a session. Times count from when both peers began to gather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The kinds of the pair that both peers selected in the end, as the first names them.
    pub path: Option<Ends>,
    /// Whether both peers have the same pair, each seen from its end, or none both.
    pub mirrored: bool,
    /// Whether application data passed both ways in the end.
    pub carries_data: bool,
    /// When both peers could send.
    pub first_path: Option<Duration>,
    /// When both peers knew of the nomination.
    pub selected: Option<Duration>,
    /// Datagrams that both peers sent until then, or until both had failed.
    pub packets: u64,
}

/// Longer than any session looks for a path.
const LIMIT: Duration = Duration::from_secs(180);

/// How long a session is watched after its nomination: what is selected then has stayed.
const WATCH: Duration = Duration::from_secs(3);

impl Session {
    /// Draws the session: a page of HTML.
    pub fn diagram(&self, title: &str) -> String {
        let mut lanes = vec![(self.a.node, "first peer")];
        lanes.extend(self.server.map(|server| (server, "server")));
        lanes.push((self.b.node, "second peer"));
        crate::diagram::sequence_diagram(&self.world, title, &lanes, &[self.a, self.b])
    }

    /// Runs on until both peers are at rest, and writes down what came of it.
    fn settle(&mut self) {
        let (a, b) = (self.a, self.b);
        let first_path = self.world.run_until(LIMIT, |world| {
            let up = |agent| world.state_at(agent, State::Connected).is_some();
            (up(a) && up(b)) || both(a, b, |agent| world.state(agent) == State::Failed)
        });
        let up = both(a, b, |agent| self.world.is_up(agent));
        if up {
            self.outcome.first_path = first_path.map(since_start);
        }
        let selected = self.world.run_until(LIMIT, |world| {
            both(a, b, |agent| {
                world.state(agent) == State::Failed || nominated_at(world, agent).is_some()
            })
        });
        if both(a, b, |agent| nominated_at(&self.world, agent).is_some()) {
            self.outcome.selected = selected.map(since_start);
        }
        let sent = |packet: &&crate::trace::TracedPacket| {
            packet.copy_of.is_none() && (packet.sender == a.node || packet.sender == b.node)
        };
        self.outcome.packets = self.world.trace().packets().iter().filter(sent).count() as u64;
        if up {
            self.world.run_for(WATCH);
        }
        self.read_path();
        if self.outcome.path.is_some() {
            self.outcome.carries_data = self.exchange_data();
        }
    }

    fn read_path(&mut self) {
        let up = |agent| {
            self.world
                .selected_pair(agent)
                .filter(|_| self.world.is_up(agent))
                .cloned()
        };
        let (at_a, at_b) = (up(self.a), up(self.b));
        self.outcome.path = at_a.as_ref().map(Ends::of);
        self.outcome.mirrored = match (at_a, at_b) {
            (Some(at_a), Some(at_b)) => {
                at_a.local.ip_address() == at_b.remote.ip_address()
                    && at_a.remote.ip_address() == at_b.local.ip_address()
            }
            (None, None) => true,
            _ => false,
        };
    }

    /// Sends from each side until the other has it; loss may take some.
    fn exchange_data(&mut self) -> bool {
        [(self.a, self.b), (self.b, self.a)]
            .into_iter()
            .all(|(from, to)| {
                (0..50).any(|_| {
                    let sent = self.world.send(from, b"ping").is_ok();
                    let arrived = self.world.run_until(Duration::from_secs(1), |world| {
                        !world.received(to).is_empty()
                    });
                    sent && arrived.is_some()
                })
            })
    }
}

fn both(a: Agent, b: Agent, holds: impl Fn(Agent) -> bool) -> bool {
    holds(a) && holds(b)
}

const fn since_start(at: Time) -> Duration {
    at.since(Time::ZERO)
}

/// When an agent was first told that a pair is nominated.
fn nominated_at(world: &World, agent: Agent) -> Option<Time> {
    let mut events = world.events(agent).iter();
    events
        .find(|(_, event)| matches!(event, Event::Nominated(_)))
        .map(|(at, _)| *at)
}

/// STUN and TURN, at one address (RFC 5737's, as all addresses here).
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 3478);

/// The server's other address.
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Where TURN over TLS goes through firewalls that let little pass.
const TLS_PORT: u16 = 443;

const USER: &str = "user";
const PASSWORD: &str = "password";
